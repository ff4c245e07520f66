"""Bar charts as inline SVG, beside the line charts of a run's report."""

from __future__ import annotations

import numpy as np

from clipin_jax.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    format_number,
    tick_labels,
    ticks,
)
from clipin_jax.report.markup import Markup, tag

BARS = 40  # at most
_FAR = 99.5  # percentile behind which values are counted in the last bar


def histogram(title: str, values: np.ndarray, mark: float | None = None) -> Markup:
    """A figure of how often which value is met.

    title: what is counted; values: [n] of numbers, n > 0; mark: drawn as a dashed line.
    """
    edges = _edges(values)
    # What lies far out is counted in the last bar, or it would flatten the rest.
    counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
    low, high = edges[0], edges[-1]
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    most = int(counts.max())

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * wide, 1)

    def y(count: float) -> float:
        return round(HEIGHT - BOTTOM - count / most * tall, 1)

    bars = [
        _bar(x(a), x(b), y(int(n)), _tip(a, b, int(n), values))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    picture = tag(
        "svg",
        _axes(x, y, (low, high), most, _is_whole(values)),
        tag("g", *bars, class_="bars"),
        _level(x(mark)) if mark is not None and low < mark < high else None,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
    )
    median = tag("span", f"median {format_number(float(np.median(values)))}")
    caption = tag("figcaption", tag("b", title), tag("span", median, class_="last"))
    return tag("figure", caption, picture, class_="chart c0")


def _edges(values: np.ndarray) -> np.ndarray:
    """Between bars; whole numbers of a short range have a bar each."""
    low = float(values.min())
    high = max(float(np.percentile(values, _FAR)), low)
    if _is_whole(values):
        step = max(1, int(np.ceil((high - low + 1) / BARS)))
        bars = int(np.ceil((high - low + 1) / step))
        return low - 0.5 + step * np.arange(bars + 1)
    return np.linspace(low, high + (high == low), BARS + 1)


def _bar(left: float, right: float, top: float, tip: str) -> Markup:
    # A hair of space between bars, and height enough to be seen.
    top = min(top, HEIGHT - BOTTOM - 1)
    return tag(
        "rect",
        tag("title", tip),
        x=left,
        y=top,
        width=round(max(right - left - 0.6, 0.6), 1),
        height=round(HEIGHT - BOTTOM - top, 1),
    )


def _tip(low: float, high: float, count: int, values: np.ndarray) -> str:
    share = f"{count:,} ({count / len(values):.1%})"
    if _is_whole(values):
        first, last = int(np.ceil(low)), int(np.floor(high))
        return f"{first}: {share}" if first == last else f"{first} to {last}: {share}"
    return f"{format_number(low)} to {format_number(high)}: {share}"


def _is_whole(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.integer)


def _axes(x, y, across: tuple[float, float], most: int, whole: bool) -> Markup:
    marks = []
    for value in ticks(0, most, count=3):
        if value == int(value):
            level = y(value)
            marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=level, y2=level))
            label = format_number(value)
            marks.append(tag("text", label, x=LEFT - 6, y=level + 3.5, class_="y"))
    levels = [n for n in ticks(*across, count=4) if not whole or n == int(n)]
    for value, label in zip(levels, tick_labels(levels), strict=True):
        anchor = "end" if x(value) > WIDTH - 24 else "middle"
        marks.append(tag("text", label, x=x(value), y=HEIGHT - 6, text_anchor=anchor))
    return tag("g", *marks, class_="axes")


def _level(place: float) -> Markup:
    line = tag("line", x1=place, x2=place, y1=TOP, y2=HEIGHT - BOTTOM)
    return tag("g", line, class_="level")
