"""What the site needs beside Sphinx: formulas, notebooks, a generated reference."""
