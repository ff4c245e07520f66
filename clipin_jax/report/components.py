"""Small parts that every page uses: notes, folded sections, legends, chart grids."""

from __future__ import annotations

from collections.abc import Iterable

from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.style import COLOURS


def note(text: str) -> Markup:
    """Returns a remark in small, soft type."""
    return tag("p", text, class_="note")


def fold(summary: object, *content: object, unfolded: bool = False) -> Markup:
    """Returns content below a line that unfolds it."""
    opened = "" if unfolded else None
    return tag("details", tag("summary", summary), *content, open=opened)


def fold_each(entries: Iterable[tuple[object, Markup | None]]) -> Markup | None:
    """Returns a fold for each (summary, content), the first one unfolded.

    Content that is None is left out. Returns None if nothing is left.
    """
    present = [
        (summary, content) for summary, content in entries if content is not None
    ]
    folds = (
        fold(summary, content, unfolded=index == 0)
        for index, (summary, content) in enumerate(present)
    )
    return tag("div", *folds) if present else None


def chart_grid(charts: Iterable[Markup]) -> Markup:
    """Returns charts side by side, as many in a row as the page is wide."""
    return tag("div", *charts, class_="charts")


def colour_class(index: int) -> str:
    """Returns the class that gives an element the colour of item number `index`."""
    return f"c{index % COLOURS}"


def colour_label(label: str, index: int) -> Markup:
    """Returns a label behind a square in the colour of item number `index`."""
    swatch = tag("i", class_=f"swatch {colour_class(index)}")
    return tag("span", swatch, tag("span", breakable(label)), class_="run")


def legend(labels: Iterable[Markup]) -> Markup:
    """Returns labels in a line."""
    return tag("p", *labels, class_="legend")
