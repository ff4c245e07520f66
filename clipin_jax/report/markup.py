"""HTML and SVG elements from function calls; text is escaped, markup is not."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = ("img", "input", "meta", "circle", "line", "path", "rect")


class Markup(str):
    """HTML that is inserted into a page unchanged."""


def escape(value: object) -> Markup:
    """Returns a value as escaped text, and markup unchanged."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(children: Iterable[object]) -> Markup:
    """Returns the children in a row; None is left out."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """Returns an element.

    Args:
      element: its name.
      children: markup, or values that become text; None is left out.
      attributes: `class_` stands for class, `data_x` for data-x; None is left out.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID and not children:
        return Markup(f"<{element}{pairs}/>")
    return Markup(f"<{element}{pairs}>{join(children)}</{element}>")


def breakable(name: str) -> Markup:
    """Returns a name that a narrow column may break after "/" and "_"."""
    return Markup(escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>"))
