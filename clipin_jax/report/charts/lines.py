"""Line charts: a metric over the steps, a colour for each run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from clipin_jax.report.charts.axes import (
    HEIGHT,
    WIDTH,
    Frame,
    chance_line,
    chart_figure,
    number_axis,
    path,
    px,
    value_axis,
    value_range,
)
from clipin_jax.report.components import colour_class
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.text_format import format_number

_LONG = 100  # points; above, a smoothed line is drawn over the raw one
_MOST_SEGMENTS = 240  # of a line; more points are averaged
_MOST_TIPS = 24  # points that show their value


class Line(NamedTuple):
    """The values of a metric in one run.

    Attributes:
      label: of the run.
      colour: number of its colour.
      steps: [n], ascending.
      values: [n].
      band: the lowest and the highest value at each step, [n] each, drawn as an area.
      style: a further class of the style sheet, so that colour is not all.
    """

    label: str
    colour: int
    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None
    style: str = ""

    @property
    def class_(self) -> str:
        """Its classes in the style sheet."""
        return f"{colour_class(self.colour)} {self.style}".rstrip()


def line_chart(
    title: str,
    lines: list[Line],
    chance: float | None = None,
    *,
    detail: float = 1.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Markup:
    """Returns a chart of one metric in several runs; below it are the steps.

    Args:
      title: the metric's name.
      lines: at least one, each with at least one point.
      chance: drawn as a dashed line.
      detail: share of the points that a page has room for, from 0 to 1.
      size: width and height of the drawing.
    """
    frame = _frame(lines, chance)._replace(size=size)
    latest = None
    if len(lines) == 1:
        last = f"last {format_number(_latest(lines[0]))}"
        latest = tag("span", last, class_="last")
    return chart_figure(
        title,
        value_axis(frame),
        number_axis(frame),
        chance_line(frame, chance) if chance is not None else None,
        *(_draw(line, frame, detail) for line in lines),
        latest=latest,
        width=size[0],
        height=size[1],
    )


def smooth(values: np.ndarray) -> np.ndarray:
    """Returns the mean of a moving median, which a single spike does not change.

    values: [n].
    """
    width = max(3, len(values) // 25)
    medians = median_filter(values, width, mode="nearest")
    kernel = np.ones(width)
    count = np.convolve(np.ones(len(values)), kernel, mode="same")
    return np.convolve(medians, kernel, mode="same") / count


def _latest(line: Line) -> float:
    """Returns the last value without the noise of a single point."""
    values = smooth(line.values) if len(line.values) > _LONG else line.values
    return float(values[-1])


def _frame(lines: list[Line], chance: float | None) -> Frame:
    last = max(float(line.steps[-1]) for line in lines)
    # A single spike must not flatten the rest: of a long line the bulk counts.
    shown = [
        np.concatenate([smooth(line.values), np.percentile(line.values, [2, 98])])
        if len(line.values) > _LONG
        else line.values
        for line in lines
    ]
    shown += [edge for line in lines if line.band for edge in line.band]
    levels = np.concatenate([*shown, [] if chance is None else [chance]])
    return Frame((0.0, max(last, 1.0)), value_range(levels))


def _draw(line: Line, frame: Frame, detail: float) -> Markup:
    parts = [] if line.band is None else [_area(line.steps, *line.band, frame)]
    most = max(24, round(detail * _MOST_SEGMENTS))
    if len(line.values) > _LONG:
        if detail == 1:
            parts.append(_curve(line.steps, line.values, frame, "raw", most))
        parts.append(_curve(line.steps, smooth(line.values), frame, "line", most))
    elif len(line.values) > 1:
        parts.append(_curve(line.steps, line.values, frame, "line", most))
    tips = max(1, round(detail * _MOST_TIPS))
    return tag("g", *parts, *_points(line, frame, tips), class_=line.class_)


def _points(line: Line, frame: Frame, most: int) -> list[Markup]:
    """Returns the circles that show a value, and dots where there are few."""
    parts = []
    count = len(line.values)
    chosen = np.unique(np.linspace(count - 1, 0, most).round().astype(int))
    positions = frame.place(line.steps[chosen], line.values[chosen])
    for i, (x, y) in zip(chosen, positions, strict=True):
        value = format_number(float(line.values[i]))
        tip = tag("title", f"{line.label}, step {int(line.steps[i])}: {value}")
        if count <= most:
            parts.append(tag("circle", cx=px(x), cy=px(y), r=2.2, class_="dot"))
        parts.append(tag("circle", tip, cx=px(x), cy=px(y), r=7, class_="tip"))
    return parts


def _area(steps: np.ndarray, low: np.ndarray, high: np.ndarray, frame: Frame) -> Markup:
    edge = np.concatenate([frame.place(steps, low), frame.place(steps, high)[::-1]])
    return tag("path", d=path(edge, closed=True), class_="area")


def _curve(
    steps: np.ndarray, values: np.ndarray, frame: Frame, kind: str, most: int
) -> Markup:
    pieces = min(len(steps), most)
    edges = np.linspace(0, len(steps), pieces + 1).astype(int)
    width = np.diff(edges)
    steps = np.add.reduceat(steps, edges[:-1]) / width
    values = np.add.reduceat(values, edges[:-1]) / width
    return tag("path", d=path(frame.place(steps, values)), class_=kind)
