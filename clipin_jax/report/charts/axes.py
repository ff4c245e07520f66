"""What all charts share: size, axes, levels, captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.text_format import format_number

# Coordinates of a chart; the style sheet scales it to its place on the page.
WIDTH, HEIGHT = 300, 165
LARGE = (440, 230)  # of charts of which at most two stand in a row
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 6, 22
NAME = 16  # more height for the name of the level axis
_LABEL = 6  # from the baseline of the labels below a chart to its edge


class Frame(NamedTuple):
    """The ranges of both axes: what lies at the edges of the plotted area.

    Attributes:
      x, y: lowest and highest value.
      size: width and height of the chart, without the names of its axes.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    size: tuple[int, int] = (WIDTH, HEIGHT)

    def place(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Returns chart coordinates of points, [n, 2].

        x, y: values, [n]; y outside the range is moved to the edge.
        """
        (x0, x1), (y0, y1) = self.x, self.y
        across = (x - x0) / (x1 - x0)
        up = np.clip((y - y0) / (y1 - y0), 0, 1)
        return np.stack(
            [
                LEFT + across * (self.size[0] - LEFT - RIGHT),
                self.size[1] - BOTTOM - up * (self.size[1] - TOP - BOTTOM),
            ],
            axis=1,
        )

    def place_x(self, x: float) -> float:
        """Returns the horizontal coordinate of a value."""
        return float(self.place(np.array([x]), np.zeros(1))[0, 0])

    def place_y(self, y: float) -> float:
        """Returns the vertical coordinate of a value."""
        return float(self.place(np.zeros(1), np.array([y]))[0, 1])


def chart_figure(
    title: str,
    *parts: Markup | None,
    latest: Markup | None = None,
    description: str | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
    class_: str = "chart",
    data: Mapping[str, object] | None = None,
) -> Markup:
    """Returns a chart with its caption.

    Args:
      title: the caption.
      parts: SVG elements, drawn in this order.
      latest: figures at the right of the caption.
      description: of the chart, for screen readers; the title if None.
      height, width: of the drawing.
      class_: of the figure.
      data: further attributes of the figure, such as `data_score`.
    """
    drawing = tag(
        "svg",
        *parts,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=description or title,
    )
    caption = tag("figcaption", tag("b", breakable(title)), latest)
    return tag("figure", caption, drawing, class_=class_, **(data or {}))


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of an axis that shows values, [n], with a margin."""
    low, high = float(values.min()), float(values.max())
    # Differences at the level of rounding are a flat line.
    flat = high - low <= 1e-9 * max(abs(high), abs(low))
    margin = max(abs(high) * 0.1, 1e-6) if flat else 0.06 * (high - low)
    return low - margin, high + margin


def value_axis(frame: Frame, count: int = 4, *, integers: bool = False) -> Markup:
    """Returns about `count` lines across the chart with their values at the left.

    integers: whether only whole numbers are marked.
    """
    marks = []
    levels = _levels(frame.y, count, integers)
    for value, label in zip(levels, tick_labels(levels), strict=True):
        y = frame.place_y(value)
        marks.append(horizontal_line(y, frame.size[0]))
        marks.append(tag("text", label, x=LEFT - 6, y=px(y + 3.5), class_="y"))
    return tag("g", *marks, class_="axes")


def number_axis(frame: Frame, *, integers: bool = False) -> Markup:
    """Returns numbers below the chart; integers: whether only whole ones."""
    marks = []
    levels = _levels(frame.x, 4, integers)
    for value, label in zip(levels, tick_labels(levels), strict=True):
        x = frame.place_x(value)
        anchor = "end" if x > frame.size[0] - 24 else "middle"
        at = dict(x=px(x), y=frame.size[1] - _LABEL, text_anchor=anchor)
        marks.append(tag("text", label, **at))
    return tag("g", *marks, class_="axes")


def axis_name(frame: Frame, name: str) -> Markup:
    """Returns the name of the level axis, which needs `NAME` more height."""
    width, height = frame.size
    at = dict(x=px((LEFT + width - RIGHT) / 2), y=height + NAME - 5)
    return tag("text", name, **at, text_anchor="middle", class_="name")


def chance_line(frame: Frame, value: float) -> Markup:
    """Returns a dashed line at the value of chance."""
    y = frame.place_y(value)
    right = frame.size[0] - RIGHT
    label = tag("text", "chance", x=right, y=px(y - 3), text_anchor="end")
    tip = tag("title", f"chance: {format_number(value)}")
    line = horizontal_line(y, frame.size[0])
    return tag("g", tip, line, label, class_="level")


def horizontal_line(y: float, width: int = WIDTH) -> Markup:
    """Returns a line across the plotted area of a chart of some width."""
    return tag("line", x1=LEFT, x2=width - RIGHT, y1=px(y), y2=px(y))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about `count` round numbers from low to high."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= 0.7 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """Returns numbers in equal steps with enough decimals to tell them apart."""
    size = max((abs(value) for value in values), default=0)
    if len(values) < 2 or not 1e-3 <= size < 1e4:
        return [format_number(value) for value in values]
    step = values[1] - values[0]
    fits = (d for d in range(9) if abs(round(step, d) - step) < 1e-6 * step)
    digits = next(fits, 9)
    return ["0" if value == 0 else f"{value:.{digits}f}" for value in values]


def px(value: float) -> str:
    """Returns a coordinate as text."""
    return f"{value:.1f}".removesuffix(".0")


def path(points: np.ndarray, *, closed: bool = False) -> str:
    """Returns the `d` of a path through points, [n, 2]."""
    corners = "L".join(f"{px(x)} {px(y)}" for x, y in points)
    return f"M{corners}" + "Z" * closed


def _levels(span: tuple[float, float], count: int, integers: bool) -> list[float]:
    levels = ticks(*span, count=count)
    return [n for n in levels if n == int(n)] if integers else levels
