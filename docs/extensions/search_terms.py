"""Words that people type: `<!-- find: A; B -->` makes a place the first result."""

import re
from typing import Any

from sphinx.application import Sphinx

_PLACE = re.compile(r"^<!-- find: (.+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the event."""
    app.connect("source-read", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mark(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = _PLACE.sub(_entries, source[0])


def _entries(match: re.Match[str]) -> str:
    """Returns main entries of the index, which the search ranks above all else."""
    words = (words.strip() for words in match[1].split(";"))
    return "\n".join(f"```{{index}} ! single: {entry}\n```" for entry in words)
