"""What the site needs beside Sphinx: formulas, notebooks and the generated reference."""
