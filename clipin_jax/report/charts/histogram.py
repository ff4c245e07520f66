"""Histograms: how often each value occurs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipin_jax.report.charts.axes import (
    BOTTOM,
    HEIGHT,
    TOP,
    Frame,
    chart_figure,
    number_axis,
    px,
    value_axis,
)
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.text_format import format_number

_MOST_BARS = 40
_FAR = 99.5  # percentile; the last bar counts all values above it
_GAP = 0.6  # between bars


def histogram(title: str, values: np.ndarray, mark: float | None = None) -> Markup:
    """Returns a histogram.

    Args:
      title: what is counted.
      values: [n] numbers, n > 0; integers have a bar each if their range is short.
      mark: drawn as a dashed upright line if it lies within.
    """
    edges = _edges(values)
    # Values far out are counted in the last bar, or they would flatten the rest.
    counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
    low, high = float(edges[0]), float(edges[-1])
    frame = Frame((low, high), (0.0, float(counts.max())))
    median = tag("span", f"median {format_number(float(np.median(values)))}")
    return chart_figure(
        title,
        value_axis(frame, count=3, integers=True),
        number_axis(frame, integers=_are_integers(values)),
        tag("g", *_bars(edges, counts, frame, values), class_="bars"),
        _mark(frame, mark) if mark is not None and low < mark < high else None,
        latest=tag("span", median, class_="last"),
        class_="chart c0",
    )


def _edges(values: np.ndarray) -> np.ndarray:
    """Returns the edges of the bars, [bars + 1]."""
    low = float(values.min())
    high = max(float(np.percentile(values, _FAR)), low)
    if _are_integers(values):
        step = max(1, int(np.ceil((high - low + 1) / _MOST_BARS)))
        bars = int(np.ceil((high - low + 1) / step))
        return low - 0.5 + step * np.arange(bars + 1)
    return np.linspace(low, high + (high == low), _MOST_BARS + 1)


def _bars(
    edges: np.ndarray, counts: np.ndarray, frame: Frame, values: np.ndarray
) -> Iterator[Markup]:
    corners = frame.place(edges[:-1], counts)
    rights = frame.place(edges[1:], counts)[:, 0]
    for i, ((left, top), right) in enumerate(zip(corners, rights, strict=True)):
        if not counts[i]:
            continue
        top = min(top, HEIGHT - BOTTOM - 1)  # high enough to be visible
        yield tag(
            "rect",
            tag("title", _tip(edges[i], edges[i + 1], int(counts[i]), values)),
            x=px(left),
            y=px(top),
            width=px(max(right - left - _GAP, _GAP)),
            height=px(HEIGHT - BOTTOM - top),
        )


def _tip(low: float, high: float, count: int, values: np.ndarray) -> str:
    share = f"{count:,} ({count / len(values):.1%})"
    if _are_integers(values):
        first, last = int(np.ceil(low)), int(np.floor(high))
        return f"{first}: {share}" if first == last else f"{first} to {last}: {share}"
    return f"{format_number(low)} to {format_number(high)}: {share}"


def _are_integers(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.integer)


def _mark(frame: Frame, value: float) -> Markup:
    x = px(frame.place_x(value))
    line = tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
    return tag("g", line, class_="level")
