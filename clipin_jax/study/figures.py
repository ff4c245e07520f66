"""A study's pictures: scores along the dial, training curves, bars of intervals.

Each method has a colour, and beside it a marker and a dash, which do not rest on
seeing colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from clipin_jax.report.charts import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Frame,
    Line,
    level_line,
    line_chart,
    px,
    value_axis,
    value_range,
)
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.study.results import Metric, Results
from clipin_jax.study.statistics import Comparison, Mean, cell_mean

TOGETHER = 6  # methods that one picture holds; more are shown pair by pair
DODGE = 0.07  # of a level's width: bars of several methods stand side by side
LETTER = 6.2  # width of one below a chart, about
LONGEST = 18  # letters of a level's name below a chart; its points tell the rest
SLANT = 30  # degrees, where names would touch
FAR = 2  # times the values' range: what is farther off is left out of the picture
SHAPES = ((16, 0), (4, 45), (3, 0), (4, 0), (3, 180))  # corners, degrees turned
STYLE = """
.s1 .line { stroke-dasharray: 6 2.5 } .s2 .line { stroke-dasharray: 1.5 2.5 }
.s3 .line { stroke-dasharray: 8 2.5 1.5 2.5 } .s4 .line { stroke-dasharray: 3 2 }
.interval { stroke: var(--run); stroke-width: 1.3 }
.key { flex: none; width: 24px; height: 10px; align-self: center }
.forest { width: 9rem; height: 14px; margin-top: .25em }
.forest .zero { stroke: var(--soft); stroke-dasharray: 2 2 }
.last { display: none }
"""


def look(results: Results, method: str) -> tuple[int, int]:
    """A method's colour, and which marker and dash it has."""
    place = results.methods.index(method)
    # Where colours begin anew, markers and dashes are out of step with them.
    return place % COLOURS, (place + place // COLOURS) % len(SHAPES)


def method_name(results: Results, method: str) -> Markup:
    """A method's name behind its line and marker."""
    colour, shape = look(results, method)
    key = tag(
        "svg",
        tag("path", d="M0 5L24 5", class_="line"),
        _marker(shape, 12, 5),
        viewBox="0 0 24 10",
        class_=f"key c{colour} s{shape}",
        aria_hidden="true",
    )
    return tag("span", key, tag("span", breakable(method)), class_="run")


def legend(results: Results, methods: Iterable[str] | None = None) -> Markup:
    """All methods in their looks."""
    names = (method_name(results, method) for method in methods or results.methods)
    return tag("p", *names, class_="legend")


def dial_chart(results: Results, metric: Metric) -> Markup | None:
    """A metric over the levels, with intervals; None without any number."""
    means = {
        method: [_shown(results, metric, method, level) for level in results.levels]
        for method in results.methods
    }
    numbers = [x for row in means.values() for mean in row for x in mean[:3]]
    chance = metric.shown_chance
    finite = [x for x in numbers if math.isfinite(x)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    far = FAR * (high - low)
    if chance is not None and not low - far <= chance <= high + far:
        chance = None  # it would flatten all else; the tables have it
    y = value_range(np.array(finite + ([] if chance is None else [chance])))
    frame = Frame((-0.4, len(results.levels) - 0.6), y)
    axis, height = _level_axis(frame, results.levels)
    picture = tag(
        "svg",
        value_axis(frame),
        axis,
        level_line(frame, chance) if chance is not None else None,
        *(_means(results, metric, method, means[method], frame) for method in means),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=f"{metric.title} over {results.dial}",
    )
    caption = tag("figcaption", tag("b", breakable(metric.title)))
    return tag("figure", caption, picture, class_="chart")


def curve_charts(results: Results, name: str) -> list[Markup]:
    """A metric over the steps: the mean over seeds and their range, level by level.

    Many methods do not fit one picture: each is then drawn beside its baseline only.
    """
    metric = next((m for m in results.metrics if m.name == name), None)
    label = name if metric is None else metric.title
    chance = None if metric is None else metric.shown_chance
    together = len(results.methods) <= TOGETHER
    groups = {"": tuple(results.methods)} if together else _pairs(results)
    charts = []
    for group, methods in groups.items():
        for level in results.levels:
            lines = [
                line
                for method in methods
                if (line := _curve(results, name, method, level, metric)) is not None
            ]
            if lines:
                at = f"{results.dial} {level}" if results.dial else ""
                title = ", ".join(part for part in (group, at) if part)
                charts.append(line_chart(title or label, lines, chance))
    return charts


def interval_bar(found: Comparison, span: float) -> Markup:
    """A difference and its interval beside zero; the picture shows -span to span."""

    def place(value: float) -> float:
        return 60 + 57 * min(max(value / span, -1), 1)

    colour = {"above": "var(--good)", "below": "var(--bad)"}
    if found.metric.lower_is_better:
        colour = {"above": "var(--bad)", "below": "var(--good)"}
    run = colour.get(found.verdict, "var(--soft)")
    parts = [tag("line", x1=60, x2=60, y1=0, y2=14, class_="zero")]
    test = found.test
    if math.isfinite(test.low):
        low, high = px(place(test.low)), px(place(test.high))
        parts.append(tag("line", x1=low, x2=high, y1=7, y2=7, class_="interval"))
        for x in (low, high):
            parts.append(tag("line", x1=x, x2=x, y1=4, y2=10, class_="interval"))
    if math.isfinite(test.mean):
        parts.append(_marker(3, place(test.mean), 7))
    return tag(
        "svg",
        *parts,
        viewBox="0 0 120 14",
        class_="forest",
        style=f"--run:{run}",
        aria_hidden="true",
    )


def _shown(results: Results, metric: Metric, method: str, level: str) -> Mean:
    mean = cell_mean(results, metric, method, level)
    scale = metric.scale
    return Mean(mean.mean * scale, mean.low * scale, mean.high * scale, mean.n)


def _means(
    results: Results, metric: Metric, method: str, means: list[Mean], frame: Frame
) -> Markup:
    colour, shape = look(results, method)
    count = len(results.methods)
    step = min(DODGE, 0.6 / count)
    shift = (results.methods.index(method) - (count - 1) / 2) * step
    parts, line = [], []
    for i, (mean, low, high, n) in enumerate(means):
        if not n:
            continue
        x, y = frame.place(np.array([i + shift]), np.array([mean]))[0]
        line.append(f"{px(x)} {px(y)}")
        if n > 1:
            ends = frame.place(np.full(2, i + shift), np.array([low, high]))[:, 1]
            parts.append(_whisker(x, *ends))
        value = f"{metric.text(mean / metric.scale)}, {n} of {len(results.seeds)} seeds"
        tip = tag("title", f"{method}, {results.dial} {results.levels[i]}: {value}")
        parts.append(tag("g", tip, _marker(shape, x, y)))
    path = tag("path", d="M" + "L".join(line), class_="line") if line[1:] else None
    return tag("g", path, *parts, class_=f"c{colour} s{shape}")


def _whisker(x: float, low: float, high: float) -> Markup:
    """An interval from low to high, upright, with its ends."""
    caps = (
        tag("line", x1=px(x - 2), x2=px(x + 2), y1=px(y), y2=px(y), class_="interval")
        for y in (low, high)
    )
    stem = tag("line", x1=px(x), x2=px(x), y1=px(low), y2=px(high), class_="interval")
    return tag("g", stem, *caps)


def _marker(shape: int, x: float, y: float, radius: float = 3.4) -> Markup:
    corners, turned = SHAPES[shape]
    points = []
    for i in range(corners):
        angle = math.radians(turned + 360 * i / corners)
        across, up = radius * math.sin(angle), radius * math.cos(angle)
        points.append(f"{px(x + across)} {px(y - up)}")
    return tag("path", d="M" + "L".join(points) + "Z", class_="dot")


def _level_axis(frame: Frame, levels: Sequence[str]) -> tuple[Markup, int]:
    """The line with the levels' names, and how high the picture becomes by it."""
    places = frame.place(np.arange(len(levels), dtype=float), np.zeros(len(levels)))
    names = [x if len(x) <= LONGEST else f"{x[: LONGEST - 1]}…" for x in levels]
    longest = LETTER * max(map(len, names))
    height, looks = HEIGHT, [dict(text_anchor="middle") for _ in names]
    if longest > (WIDTH - LEFT - RIGHT) / len(levels):
        height += round(longest * math.sin(math.radians(SLANT)))
        looks = [
            dict(text_anchor="end", transform=f"rotate(-{SLANT} {px(x)} {HEIGHT - 6})")
            for x, _ in places
        ]
    labels = (
        tag("text", name, x=px(x), y=HEIGHT - 6, **style)
        for name, style, (x, _) in zip(names, looks, places, strict=True)
    )
    floor = HEIGHT - BOTTOM
    base = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor)
    return tag("g", base, *labels, class_="axes"), height


def _pairs(results: Results) -> dict[str, tuple[str, ...]]:
    return {f"{pair[0]} and {pair[1]}": pair for pair in results.pairs}


def _curve(
    results: Results, name: str, method: str, level: str, metric: Metric | None
) -> Line | None:
    """The seeds' mean and range at each step where any of them has a number."""
    at: dict[float, list[float]] = {}
    for seed in results.seeds:
        run = results.runs.get((method, level, seed))
        for step, value in run.curves.get(name, ()) if run is not None else ():
            if value is not None and math.isfinite(value):
                at.setdefault(step, []).append(value)
    if not at:
        return None
    scale = 1.0 if metric is None else metric.scale
    steps = sorted(at)
    mean, low, high = (
        np.array([float(f(at[step])) * scale for step in steps])
        for f in (np.mean, min, max)
    )
    colour, shape = look(results, method)
    band = (low, high) if len(steps) > 1 else None
    return Line(method, colour, np.array(steps, float), mean, band, f"s{shape}")
