"""Means with intervals: a chart over the levels of a setting, and a bar beside zero.

Each series has a colour, and beside it a marker and a dash, so that nobody has to tell
colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.report.charts.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Frame,
    chance_line,
    chart_figure,
    horizontal_line,
    path,
    px,
    value_axis,
    value_range,
)
from clipin_jax.report.components import colour_class
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.style import COLOURS

_OFFSET = 0.07  # of a level's width, between the series at a level
_MOST_SPREAD = 0.6  # of a level's width, between the first series and the last
_LETTER = 6.2  # width of a letter below a chart, about
_LONGEST_LABEL = 18  # letters; the tips have the whole name
_SLANT = 30  # degrees, of labels that would touch
_FAR = 2  # times the range of the values; chance is not drawn further out than that
# Markers as polygons: corners, and degrees by which they are turned.
_MARKERS = ((16, 0), (4, 45), (3, 0), (4, 0), (3, 180))
_DIAMOND = 3  # its index in _MARKERS


class Look(NamedTuple):
    """How a series is drawn: numbers of its colour, and of its marker and dash."""

    colour: int
    shape: int

    @property
    def style(self) -> str:
        """The class of its dash."""
        return f"s{self.shape}"

    @property
    def class_(self) -> str:
        """The classes of its colour and dash."""
        return f"{colour_class(self.colour)} {self.style}"


class IntervalPoint(NamedTuple):
    """A mean with its interval.

    mean: what is drawn; low, high: NaN for no interval; tip: shown beside the pointer.
    """

    mean: float
    low: float
    high: float
    tip: str


class IntervalSeries(NamedTuple):
    """The points of a series, one for each level; None where there is none."""

    look: Look
    points: Sequence[IntervalPoint | None]


def look_of(index: int) -> Look:
    """Returns the look of series number `index`."""
    # Where colours repeat, markers and dashes are out of step with them.
    return Look(index % COLOURS, (index + index // COLOURS) % len(_MARKERS))


def series_label(name: str, look: Look) -> Markup:
    """Returns a series' name behind a piece of its line."""
    key = tag(
        "svg",
        tag("path", d="M0 5L24 5", class_="line"),
        marker(look.shape, 12, 5),
        viewBox="0 0 24 10",
        class_=f"key {look.class_}",
        aria_hidden="true",
    )
    return tag("span", key, tag("span", breakable(name)), class_="run")


def interval_chart(
    title: str,
    levels: Sequence[str],
    series: Sequence[IntervalSeries],
    *,
    chance: float | None = None,
    description: str | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Markup | None:
    """Returns a chart of means with intervals over levels; None without any number.

    Args:
      title: the caption.
      levels: names below the chart.
      series: a point for each level.
      chance: drawn as a dashed line, unless it lies far from all values.
      description: for screen readers.
      size: width and height of the drawing; long names below it add to the height.
    """
    points = [point for one in series for point in one.points if point is not None]
    numbers = [x for point in points for x in point[:3] if math.isfinite(x)]
    if not numbers:
        return None
    chance = _near(chance, numbers)
    y = value_range(np.array(numbers + ([] if chance is None else [chance])))
    frame = Frame((-0.4, len(levels) - 0.6), y, size)
    axis, height = _level_axis(frame, levels)
    step = min(_OFFSET, _MOST_SPREAD / len(series))
    shifts = [(i - (len(series) - 1) / 2) * step for i in range(len(series))]
    return chart_figure(
        title,
        value_axis(frame),
        axis,
        chance_line(frame, chance) if chance is not None else None,
        *(_draw(one, frame, at) for one, at in zip(series, shifts, strict=True)),
        description=description,
        width=size[0],
        height=height,
    )


def interval_bar(
    mean: float, low: float, high: float, *, span: float, colour: str
) -> Markup:
    """Returns a mean and its interval as a bar beside a line at zero.

    Args:
      mean, low, high: in the same unit; what is not finite is not drawn.
      span: the bar shows -span to span.
      colour: a CSS colour.
    """

    def place(value: float) -> float:
        return 60 + 57 * min(max(value / span, -1), 1)

    parts = [tag("line", x1=60, x2=60, y1=0, y2=14, class_="zero")]
    if math.isfinite(low):
        left, right = px(place(low)), px(place(high))
        parts.append(tag("line", x1=left, x2=right, y1=7, y2=7, class_="interval"))
        for x in (left, right):
            parts.append(tag("line", x1=x, x2=x, y1=4, y2=10, class_="interval"))
    if math.isfinite(mean):
        parts.append(marker(_DIAMOND, place(mean), 7))
    return tag(
        "svg",
        *parts,
        viewBox="0 0 120 14",
        class_="forest",
        style=f"--run:{colour}",
        aria_hidden="true",
    )


def _near(chance: float | None, numbers: list[float]) -> float | None:
    """Returns chance if it is near the numbers: it must not flatten them."""
    low, high = min(numbers), max(numbers)
    far = _FAR * (high - low)
    near = chance is not None and low - far <= chance <= high + far
    return chance if near else None


def _draw(series: IntervalSeries, frame: Frame, shift: float) -> Markup:
    parts, line = [], []
    for level, point in enumerate(series.points):
        if point is None:
            continue
        x, y = frame.place_x(level + shift), frame.place_y(point.mean)
        line.append((x, y))
        if math.isfinite(point.low):
            low, high = frame.place_y(point.low), frame.place_y(point.high)
            parts.append(upright_interval(x, low, high))
        mark = marker(series.look.shape, x, y)
        parts.append(tag("g", tag("title", point.tip), mark))
    curve = tag("path", d=path(np.array(line)), class_="line") if line[1:] else None
    return tag("g", curve, *parts, class_=series.look.class_)


def upright_interval(x: float, low: float, high: float) -> Markup:
    """Returns an upright line from low to high, in chart coordinates, with caps."""
    caps = (
        tag("line", x1=px(x - 2), x2=px(x + 2), y1=px(y), y2=px(y), class_="interval")
        for y in (low, high)
    )
    stem = tag("line", x1=px(x), x2=px(x), y1=px(low), y2=px(high), class_="interval")
    return tag("g", stem, *caps)


def marker(shape: int, x: float, y: float, radius: float = 3.4) -> Markup:
    """Returns the marker of a shape around a point in chart coordinates."""
    corners, turned = _MARKERS[shape]
    angles = np.radians(turned + 360 * np.arange(corners) / corners)
    points = np.stack([x + radius * np.sin(angles), y - radius * np.cos(angles)], 1)
    return tag("path", d=path(points, closed=True), class_="dot")


def _level_axis(frame: Frame, levels: Sequence[str]) -> tuple[Markup, int]:
    """Returns the line with the levels' names, and the height that the chart needs."""
    positions = [frame.place_x(level) for level in range(len(levels))]
    names = [
        x if len(x) <= _LONGEST_LABEL else f"{x[: _LONGEST_LABEL - 1]}…" for x in levels
    ]
    longest = _LETTER * max(map(len, names))
    width, height = frame.size
    base = horizontal_line(height - BOTTOM, width)
    baseline = height - 6
    slanted = longest > (width - LEFT - RIGHT) / len(levels)
    if slanted:
        height += round(longest * math.sin(math.radians(_SLANT)))
    labels = []
    for name, x in zip(names, positions, strict=True):
        turned = f"rotate(-{_SLANT} {px(x)} {baseline})" if slanted else None
        anchor = "end" if slanted else "middle"
        labels.append(
            tag(
                "text",
                name,
                x=px(x),
                y=baseline,
                text_anchor=anchor,
                transform=turned,
            )
        )
    return tag("g", base, *labels, class_="axes"), height
