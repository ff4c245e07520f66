"""Copies notebooks/*.ipynb into the source, and makes links to them work."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# Where a page of docs/FOLDER/ finds the notebooks, and a notebook the pages.
_TO_NOTEBOOK = re.compile(r"\]\((?:\.\./)+notebooks/(\w+\.ipynb)")
# On GitHub their list; the site has it in its menu, and opens the first.
_TO_LIST = re.compile(r"\]\((?:\.\./)+notebooks/README\.md")
_TO_README = re.compile(r"\]\((?:\.\./)+README\.md")
_TO_PAGE = "](../docs/"
_BADGE = re.compile(r"!\[([^\]]+)\]\(https?://[^)]+\)")  # would come from a network
_GLOB = re.compile(r"\w+/\*\n")  # in a toctree


def setup(app: Sphinx) -> dict[str, Any]:
    """Copies the notebooks before the sources are listed."""
    app.connect("config-inited", lambda app, config: _copy(Path(app.srcdir)))
    app.connect("source-read", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _copy(docs: Path) -> None:
    """Fills docs/notebooks/, which git ignores."""
    copies = docs / "notebooks"
    shutil.rmtree(copies, ignore_errors=True)
    for notebook in sorted(docs.parent.glob("notebooks/*.ipynb")):
        copies.mkdir(exist_ok=True)
        text = notebook.read_text("utf-8").replace(_TO_PAGE, "](../")
        content = json.loads(_BADGE.sub(r"\1", text))
        # Cells have commands of the shell (`!clipin ...`), which Python's lexer lacks.
        content["metadata"]["language_info"] = {
            "name": "python",
            "pygments_lexer": "ipython3",
        }
        (copies / notebook.name).write_text(json.dumps(content), encoding="utf-8")


def _link(app: Sphinx, name: str, source: list[str]) -> None:
    above = "../" * name.count("/")
    text = _TO_NOTEBOOK.sub(rf"]({above}notebooks/\1", source[0])
    text = _TO_LIST.sub(f"]({above}notebooks/quickstart.ipynb", text)
    text = _TO_README.sub(f"]({above}index.md", text)
    lines = text.splitlines(keepends=True)
    listed = {line.strip() for line in lines}

    def stays(line: str) -> bool:
        """Whether it is no glob of a toctree, or one that finds a page."""
        if not _GLOB.fullmatch(line):
            return True
        pages = Path(app.srcdir).glob(f"{line.strip()}.*")
        pages = [page for page in pages if page.suffix in (".md", ".ipynb")]
        found = {str(p.relative_to(app.srcdir).with_suffix("")) for p in pages}
        return bool(found - listed)

    source[0] = "".join(filter(stays, lines))
