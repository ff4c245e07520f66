"""Small parts that every page uses: notes, folded sections, legends, cards, bars."""

from __future__ import annotations

from collections.abc import Iterable

from clipin_jax.report.markup import Markup, tag
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


def wide_charts(charts: Iterable[Markup]) -> Markup:
    """Returns larger charts, at most two in a row."""
    return tag("div", *charts, class_="charts wide-charts")


def columns(parts: Iterable[Markup]) -> Markup:
    """Returns parts such as tables in as many columns as the page has room for."""
    return tag("div", *parts, class_="columns")


def cards(parts: Iterable[Markup], class_: str = "") -> Markup:
    """Returns cards side by side; class_ "wide-cards" for wider ones."""
    return tag("div", *parts, class_=f"cards {class_}".rstrip())


def captioned_image(image: Markup, caption: str, class_: str | None = None) -> Markup:
    """Returns an image with a line below it."""
    return tag("figure", image, tag("figcaption", caption), class_=class_)


def colour_class(index: int) -> str:
    """Returns the class that gives an element the colour of item number `index`."""
    return f"c{index % COLOURS}"


def legend(labels: Iterable[Markup]) -> Markup:
    """Returns labels in a line."""
    return tag("p", *labels, class_="legend")


def share_bar(share: float, mark: float | None = None) -> Markup:
    """Returns a share from 0 to 1 as a bar, with a mark at another share."""
    at = None
    if mark is not None:
        at = tag("i", class_="mark", style=f"left:{100 * mark:.1f}%")
    fill = tag("i", class_="fill", style=f"width:{100 * share:.1f}%")
    return tag("span", fill, at, class_="bar")
