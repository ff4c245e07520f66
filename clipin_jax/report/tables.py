"""Tables that scroll sideways where they are wider than the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.text_format import NO_NUMBER


def table(
    head: Iterable[object],
    rows: Iterable[Iterable[object]],
    class_: str | None = None,
) -> Markup:
    """Returns rows of cells under a head.

    Args:
      head: a cell for each column; empty for no head.
      rows: the cells of each row.
      class_: of the table.
    """
    body = tag("tbody", *(tag("tr", *(tag("td", c) for c in row)) for row in rows))
    return scrolling_table(header_row(head), body, class_=class_)


def scrolling_table(*parts: Markup | None, class_: str | None = None) -> Markup:
    """Returns a table of `thead` and `tbody` elements."""
    return tag("div", tag("table", *parts, class_=class_), class_="scroll")


def header_row(cells: Iterable[object]) -> Markup | None:
    """Returns the head of a table; None without cells."""
    columns = [tag("th", cell, scope="col") for cell in cells]
    return tag("thead", tag("tr", *columns)) if columns else None


def group_row(title: str, columns: int) -> Markup:
    """Returns a row with one title above the rows of a group."""
    return tag("tr", tag("th", title, colspan=columns, class_="group"))


def key_table(
    values: Mapping[str, Iterable[object]], head: Iterable[object]
) -> Markup | None:
    """Returns a row for each key: the key, then its values; None without keys.

    head: of the values' columns.
    """
    rows = [[tag("code", key), *cells] for key, cells in values.items()]
    return table(("key", *head), rows, class_="config") if rows else None


def compare_trees(trees: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns each dotted key of nested mappings with its value in every one."""
    flat = [flatten(tree) for tree in trees]
    keys = dict.fromkeys(key for tree in flat for key in tree)
    return {
        key: [_value_text(tree[key]) if key in tree else NO_NUMBER for tree in flat]
        for key in keys
    }


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping as dotted keys; sequences are values."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree} if prefix else {}
    return {
        key: value
        for name, child in tree.items()
        for key, value in flatten(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(child) for child in value) if value else "()"
    if isinstance(value, Mapping):
        return "{}"
    return str(value) if value != "" else "''"
