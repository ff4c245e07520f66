"""Line charts as inline SVG: one figure a metric, one colour a run."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from clipin_jax.report.markup import Markup, breakable, tag

WIDTH, HEIGHT = 300, 165
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 6, 22
COLOURS = 10  # as many as the style sheet has
LONG = 100  # points from which a smoothed line is drawn over the raw one
MOST_POINTS = 400  # a line keeps no more than these
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
MOST_TIPS = 40  # points that say their value


class Line(NamedTuple):
    """One run's values of a metric: steps and values are [n], steps ascending.

    band: the lowest and the highest value at each step, [n] each, drawn as an area.
    style: a class of the page's style sheet, for what colour alone does not tell.
    """

    label: str
    colour: int
    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None
    style: str = ""


class Frame(NamedTuple):
    """The ranges of both axes, and where they lie in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Picture coordinates of points: [n, 2]; beyond the frame is on its edge."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = (steps - x0) / (x1 - x0)
        up = np.clip((values - y0) / (y1 - y0), 0, 1)
        return np.stack(
            [
                LEFT + across * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
            ],
            axis=1,
        )


def line_chart(title: str, lines: list[Line], chance: float | None = None) -> Markup:
    """A figure with one metric of several runs.

    title: the metric's name; lines: at least one, none of them empty;
    chance: drawn as a dashed level.
    """
    frame = _frame(lines, chance)
    last = (
        tag("span", format_number(_latest(line)), class_=f"c{line.colour}")
        for line in lines[:3]
    )
    picture = tag(
        "svg",
        value_axis(frame),
        _step_axis(frame),
        level_line(frame, chance) if chance is not None else None,
        *(_draw(line, frame) for line in lines),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
    )
    caption = tag(
        "figcaption", tag("b", breakable(title)), tag("span", *last, class_="last")
    )
    return tag("figure", caption, picture, class_="chart")


def smooth(values: np.ndarray) -> np.ndarray:
    """A moving median, which no single spike moves, averaged; values: [n]."""
    width = max(3, len(values) // 25)
    middle = median_filter(values, width, mode="nearest")
    kernel = np.ones(width)
    count = np.convolve(np.ones(len(values)), kernel, mode="same")
    return np.convolve(middle, kernel, mode="same") / count


def format_number(value: float) -> str:
    """A number short enough for a label."""
    size = abs(value)
    if 0 < size < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if size < 1e4:
        return f"{value:.4g}" if size >= 10 else f"{value:.3g}"
    unit, letter = next(u for u in UNITS if size >= u[0])
    return f"{value / unit:.3g}{letter}"


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= 0.7 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """Numbers in equal steps, with as many decimals as tell them apart."""
    size = max((abs(value) for value in values), default=0)
    if len(values) < 2 or not 1e-3 <= size < 1e4:
        return [format_number(value) for value in values]
    step = values[1] - values[0]
    fits = (d for d in range(9) if abs(round(step, d) - step) < 1e-6 * step)
    digits = next(fits, 9)
    return ["0" if value == 0 else f"{value:.{digits}f}" for value in values]


def _latest(line: Line) -> float:
    """What a line arrived at, without the noise of its last point."""
    return float(
        smooth(line.values)[-1] if len(line.values) > LONG else line.values[-1]
    )


def _frame(lines: list[Line], chance: float | None) -> Frame:
    last = max(float(line.steps[-1]) for line in lines)
    # A single spike must not flatten the rest: of a long line its bulk counts.
    shown = [
        np.concatenate([smooth(line.values), np.percentile(line.values, [2, 98])])
        if len(line.values) > LONG
        else line.values
        for line in lines
    ]
    shown += [edge for line in lines if line.band for edge in line.band]
    levels = np.concatenate([*shown, [] if chance is None else [chance]])
    return Frame((0.0, max(last, 1.0)), value_range(levels))


def value_range(values: np.ndarray) -> tuple[float, float]:
    """What an axis shows so that values, [n], lie inside it with some air."""
    low, high = float(values.min()), float(values.max())
    # Differences at the level of rounding are a flat line.
    flat = high - low <= 1e-9 * max(abs(high), abs(low))
    pad = max(abs(high) * 0.1, 1e-6) if flat else 0.06 * (high - low)
    return low - pad, high + pad


def value_axis(frame: Frame) -> Markup:
    """Lines across the picture with their values beside them."""
    marks = []
    levels = ticks(*frame.y, count=4)
    for value, label in zip(levels, tick_labels(levels), strict=True):
        ((_, y),) = frame.place(np.zeros(1), np.array([value]))
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=px(y), y2=px(y)))
        marks.append(tag("text", label, x=LEFT - 6, y=px(y + 3.5), class_="y"))
    return tag("g", *marks, class_="axes")


def _step_axis(frame: Frame) -> Markup:
    marks = []
    for step in ticks(*frame.x, count=4):
        ((x, _),) = frame.place(np.array([step]), np.zeros(1))
        label = format_number(step)
        anchor = "end" if x > WIDTH - 24 else "middle"
        marks.append(tag("text", label, x=px(x), y=HEIGHT - 6, text_anchor=anchor))
    return tag("g", *marks, class_="axes")


def level_line(frame: Frame, value: float) -> Markup:
    """The level of chance."""
    ((_, y),) = frame.place(np.zeros(1), np.array([value]))
    line = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=px(y), y2=px(y))
    label = tag("text", "chance", x=WIDTH - RIGHT, y=px(y - 3), text_anchor="end")
    tip = tag("title", f"chance: {format_number(value)}")
    return tag("g", tip, line, label, class_="level")


def _draw(line: Line, frame: Frame) -> Markup:
    parts = [] if line.band is None else [_area(line.steps, *line.band, frame)]
    if len(line.values) > LONG:
        parts.append(_path(line.steps, line.values, frame, "raw"))
        parts.append(_path(line.steps, smooth(line.values), frame, "line"))
    elif len(line.values) > 1:
        parts.append(_path(line.steps, line.values, frame, "line"))
    few = len(line.values) <= 30
    chosen = np.unique(
        np.linspace(0, len(line.values) - 1, MOST_TIPS).round().astype(int)
    )
    places = frame.place(line.steps[chosen], line.values[chosen])
    for i, (x, y) in zip(chosen, places, strict=True):
        value = format_number(float(line.values[i]))
        tip = tag("title", f"{line.label}, step {int(line.steps[i])}: {value}")
        if few:
            parts.append(tag("circle", cx=px(x), cy=px(y), r=2.2, class_="dot"))
        parts.append(tag("circle", tip, cx=px(x), cy=px(y), r=7, class_="tip"))
    return tag("g", *parts, class_=f"c{line.colour} {line.style}".rstrip())


def _area(steps: np.ndarray, low: np.ndarray, high: np.ndarray, frame: Frame) -> Markup:
    edge = [*frame.place(steps, low), *frame.place(steps, high)[::-1]]
    points = (f"{px(x)} {px(y)}" for x, y in edge)
    return tag("path", d="M" + "L".join(points) + "Z", class_="area")


def _path(steps: np.ndarray, values: np.ndarray, frame: Frame, kind: str) -> Markup:
    pieces = min(len(steps), MOST_POINTS)
    edges = np.linspace(0, len(steps), pieces + 1).astype(int)
    width = np.diff(edges)
    steps = np.add.reduceat(steps, edges[:-1]) / width
    values = np.add.reduceat(values, edges[:-1]) / width
    points = (f"{px(x)} {px(y)}" for x, y in frame.place(steps, values))
    return tag("path", d="M" + "L".join(points), class_=kind)


def px(value: float) -> str:
    """A picture coordinate."""
    return f"{value:.1f}".removesuffix(".0")
