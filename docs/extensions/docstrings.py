"""Reads docstrings as they are written: an indented block after a colon is code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the event, before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _mark_code, priority=300)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mark_code(
    app: Sphinx, what: str, name: str, target: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = mark_code(lines)


def mark_code(lines: list[str]) -> list[str]:
    """Returns lines in which blocks that are indented by four or more are literal."""
    marked: list[str] = []
    inside = False
    for line in lines:
        is_deep = line.startswith("    ")
        if is_deep and not inside and marked and not marked[-1]:
            above = next((x for x in reversed(marked) if x), "")
            if above.startswith(" ") or not above:  # a paragraph of a section
                is_deep = False
            elif above.endswith(":"):
                marked[len(marked) - 1 - marked[::-1].index(above)] += ":"
            else:
                marked += ["::", ""]
        inside = is_deep or (inside and not line)
        marked.append(line)
    return marked
