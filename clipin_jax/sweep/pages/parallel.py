"""Parallel coordinates: an upright axis for each key and the metric, a line a point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.report.charts.axes import path, px, tick_labels, ticks
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.text_format import format_number
from clipin_jax.sweep.definition import Sweep, shorten_key
from clipin_jax.sweep.outcomes import Point, ranked
from clipin_jax.sweep.space.axes import Axis, Range

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _SIDE = 760, 250, 30, 12, 60
_WIDE = 30  # ratio of the largest value to the smallest, from which an axis is in logs
_LONGEST = 14  # letters of a value
STYLE = """
.parallel { padding: .6rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px }
.parallel { max-width: 62rem; overflow-x: auto } .parallel svg { min-width: 40rem }
.parallel .line { opacity: .75 } .parallel g:hover .line { opacity: 1; stroke-width: 3 }
.parallel .best .line { stroke-width: 2.6; opacity: 1 }
.parallel text { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
.parallel .name { font-weight: 600 }
"""


class _Scale(NamedTuple):
    """An upright axis: its name, where a value lies from 0 to 1, and its marks."""

    name: str
    place: Callable[[str], float]
    marks: list[tuple[str, float]]


def parallel_coordinates(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    """Returns the chart of the points that are done; None with fewer than two."""
    done = ranked(sweep, points)
    if len(done) < 2:
        return None
    scales = [
        _scale(key, axis, [point.assignment[key] for point in done])
        for key, axis in sweep.space.axes.items()
    ]
    values = [repr(point.values[0]) for point in done]
    goal = sweep.goals[0]
    metric = _numbers(goal.metric, values, log=False, label=goal.text)
    scales.append(metric)
    xs = np.linspace(_SIDE, _WIDTH - _SIDE, len(scales))
    lines = [
        _line(sweep, point, scales, xs, 1 - i / max(len(done) - 1, 1))
        for i, point in enumerate(done)
    ]
    drawing = tag(
        "svg",
        *reversed(lines),  # the best on top
        *(
            _axis(scale, x, first=not i, last=i == len(scales) - 1)
            for i, (scale, x) in enumerate(zip(scales, xs, strict=True))
        ),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label="parallel coordinates of the points",
    )
    return tag("figure", drawing, class_="parallel")


def _scale(key: str, axis: Axis, texts: Sequence[str]) -> _Scale:
    name = shorten_key(key)
    if isinstance(axis, Range):
        return _numbers(name, texts, log=axis.log)
    try:
        numbers = [float(value) for value in axis.values]
    except ValueError:
        return _names(name, axis.values)
    wide = min(numbers) > 0 and max(numbers) >= _WIDE * min(numbers)
    return _numbers(name, axis.values, log=wide, marks=numbers)


def _names(name: str, values: Sequence[str]) -> _Scale:
    last = max(len(values) - 1, 1)
    places = {value: i / last for i, value in enumerate(values)}
    marks = [(_short(value), place) for value, place in places.items()]
    return _Scale(name, places.__getitem__, marks)


def _numbers(
    name: str,
    texts: Sequence[str],
    *,
    log: bool,
    marks: Sequence[float] = (),
    label: Callable[[float], str] | None = None,
) -> _Scale:
    turn = math.log10 if log else float
    numbers = [float(text) for text in texts]
    low, high = turn(min(numbers)), turn(max(numbers))
    span = high - low or 1.0

    def place(text: str) -> float:
        return (turn(float(text)) - low) / span if high > low else 0.5

    if not marks:
        marks = _marks(min(numbers), max(numbers), log=log)
    if label is None and log:
        label = format_number
    labels = list(map(label, marks)) if label else tick_labels(list(marks))
    pairs = zip(labels, marks, strict=True)
    return _Scale(name, place, [(label, place(repr(x))) for label, x in pairs])


def _marks(low: float, high: float, *, log: bool) -> list[float]:
    if high <= low:
        return [low]
    if not log:
        return ticks(low, high, 4)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10.0**power for power in powers] if len(powers) > 1 else [low, high]


def _line(
    sweep: Sweep, point: Point, scales: Sequence[_Scale], xs: np.ndarray, good: float
) -> Markup:
    texts = [point.assignment[key] for key in sweep.space.axes]
    texts.append(repr(point.values[0]))
    ys = [_y(scale.place(text)) for scale, text in zip(scales, texts, strict=True)]
    shown = ", ".join(f"{shorten_key(k)}={v}" for k, v in point.assignment.items())
    title = f"{point.number}: {shown}: {sweep.goals[0].text(point.values[0])}"
    curve = tag("path", d=path(np.stack([xs, ys], 1)), class_="line")
    mixed = f"color-mix(in srgb, var(--c0) {10 + 90 * good:.0f}%, var(--grid))"
    colour = "var(--c1)" if good == 1 else mixed
    best = "best" if good == 1 else None
    return tag("g", tag("title", title), curve, class_=best, style=f"--run:{colour}")


def _axis(scale: _Scale, x: float, *, first: bool, last: bool) -> Markup:
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    # Names at the edges grow inwards, so that none is cut.
    anchor = "start" if first else "end" if last else "middle"
    at = dict(x=px(4 if first else _WIDTH - 4 if last else x), y=14)
    parts = [
        tag("line", x1=px(x), x2=px(x), y1=top, y2=bottom, stroke="var(--rule)"),
        tag("text", scale.name, **at, class_="name", text_anchor=anchor),
    ]
    labels = set()
    for label, place in scale.marks:
        if label not in labels:  # rounding may make them equal
            y = px(_y(place) + 3.5)
            parts.append(tag("text", label, x=px(x - 6), y=y, text_anchor="end"))
        labels.add(label)
    return tag("g", *parts)


def _y(place: float) -> float:
    return _HEIGHT - _BOTTOM - place * (_HEIGHT - _TOP - _BOTTOM)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
