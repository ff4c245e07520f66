"""Tables that scroll sideways where they are wider than the page, and may be sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.text_format import NO_NUMBER

# Turns the heads of tables with `data-sort` into buttons. Without it nothing is lost
# but the order: rows stand as they were written. Rows without a value come last.
SORT_SCRIPT = Markup("""
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.v;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...[...head.childNodes].filter(node => node.nodeName !== "SMALL"));
    head.prepend(button);
    button.onclick = () => {
      const rows = [...body.rows], known = rows.map(row => value(row, column));
      const texts = known.some(v => v && isNaN(v));
      const was = head.getAttribute("aria-sort");
      const up = was ? was === "descending" : texts;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort((a, b) => {
        const [v, w] = [value(a, column), value(b, column)];
        if (!v || !w) return !v - !w;
        return (texts ? v.localeCompare(w) : v - w) * (up ? 1 : -1);
      }).forEach(row => body.append(row));
    };
  });
}
""")
SORTABLE = 'data-sort=""'  # in a page's text, which would escape the quotes elsewhere


class Cell(NamedTuple):
    """A cell of a table that may be sorted.

    Attributes:
      shown: its content.
      value: by which its column is sorted; None for a cell without a value.
    """

    shown: object
    value: float | str | None


def table(
    head: Iterable[object],
    rows: Iterable[Iterable[object]],
    class_: str | None = None,
    *,
    sortable: bool = False,
) -> Markup:
    """Returns rows of cells under a head.

    Args:
      head: a cell for each column; empty for no head.
      rows: the cells of each row, `Cell` where the text is not the value to sort by.
      class_: of the table: "numbers" aligns all columns but the first one to the right.
      sortable: whether a reader may sort it by a column.
    """
    body = tag("tbody", *(tag("tr", *map(_cell, row)) for row in rows))
    return scrolling_table(header_row(head), body, class_=class_, sortable=sortable)


def scrolling_table(
    *parts: Markup | None, class_: str | None = None, sortable: bool = False
) -> Markup:
    """Returns a table of `thead` and `tbody` elements."""
    found = tag("table", *parts, class_=class_, data_sort="" if sortable else None)
    # A region that scrolls must be reached by the keyboard, and have a name.
    return tag(
        "div", found, class_="scroll", tabindex=0, role="group", aria_label="table"
    )


def header_row(cells: Iterable[object]) -> Markup | None:
    """Returns the head of a table; None without cells."""
    columns = [tag("th", cell, scope="col") for cell in cells]
    return tag("thead", tag("tr", *columns)) if columns else None


def group_row(title: str, columns: int) -> Markup:
    """Returns a row with one title above the rows of a group."""
    return tag(
        "tr", tag("th", title, colspan=columns, class_="group", scope="colgroup")
    )


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


def _cell(cell: object) -> Markup:
    if not isinstance(cell, Cell):
        return tag("td", cell)
    return tag("td", cell.shown, data_v=cell.value)


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(child) for child in value) if value else "()"
    if isinstance(value, Mapping):
        return "{}"
    return str(value) if value != "" else "''"
