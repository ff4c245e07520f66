"""HTML and SVG by function calls: whatever is not markup already gets escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

_VOID = ("img", "meta", "circle", "line", "path", "rect")


class Markup(str):
    """Text that is safe to stand in a page as it is."""


def escape(value: Any) -> Markup:
    """A value as text; markup stays what it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(children: Iterable[Any]) -> Markup:
    """Children one after the other; None is nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(element: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element. `class_` stands for class, `data_x` for data-x; None is left out."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID and not children:
        return Markup(f"<{element}{pairs}/>")
    return Markup(f"<{element}{pairs}>{join(children)}</{element}>")


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks between its words."""
    return Markup(escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>"))
