"""Reads docstrings in Google's style: the summary, and the words on each argument."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

# A section lasts until a line that is not indented.
_SECTION = re.compile(
    r"^(?:Args|Attributes|Scalars):\n((?:[ ]+.*(?:\n|\Z)|\n)+)", re.MULTILINE
)
_ENTRY = re.compile(
    r"^(\w+(?:, \w+)*): (.*(?:\n|\Z)(?:[ ]+.*(?:\n|\Z))*)", re.MULTILINE
)


def summary(target: Any) -> str:
    """Returns the first paragraph of a docstring as one line; "" without one."""
    return " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())


def describe_arguments(target: Callable[..., Any]) -> dict[str, str]:
    """Returns argument -> its description, as one line.

    Args:
      target: a function, or a class. What a base class says holds for its subclasses,
        unless they say otherwise.
    """
    return {
        name: " ".join(text.split())
        for docstring in _docstrings(target)
        for section in _SECTION.findall(inspect.cleandoc(docstring))
        for names, text in _ENTRY.findall(inspect.cleandoc(section))
        for name in names.split(", ")
    }


def _docstrings(target: Callable[..., Any]) -> Iterator[str]:
    """Yields the docstrings of a function, or of a class and its bases, these first."""
    if not inspect.isclass(target):
        yield target.__doc__ or ""
        return
    for kind in reversed(target.__mro__):
        init = vars(kind).get("__init__")
        yield from (x.__doc__ for x in (kind, init) if x is not None and x.__doc__)
