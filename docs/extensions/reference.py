"""Fills pages of the reference: `<!-- generated: NAME -->` becomes what NAME makes.

The pages stay short in the repository, links to them work on GitHub too, and nothing
that is generated is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from extensions import commands, config_keys, python_names, tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLACE = re.compile(r"^<!-- generated: ([\w ]+) -->$", re.MULTILINE)
GENERATORS: dict[str, Callable[[], str]] = {
    "base classes": python_names.base_classes,
    "commands": commands.page,
    "config keys": config_keys.page,
    "public names": python_names.public_names,
    **tables.GENERATORS,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the events."""
    app.connect("source-read", _fill)
    # Before napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", tables.drop_arguments, priority=400)
    app.connect("autodoc-process-signature", tables.drop_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def fill(page: str) -> str:
    """Returns a page with the generated parts in their places."""
    return PLACE.sub(lambda match: GENERATORS[match[1]](), page)
