"""A score against a cost: a line and a last point with its interval for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.report.charts.axes import (
    LARGE,
    NAME,
    Frame,
    axis_name,
    chance_line,
    chart_figure,
    number_axis,
    path,
    px,
    value_axis,
    value_range,
)
from clipin_jax.report.charts.intervals import Look, marker, upright_interval
from clipin_jax.report.markup import Markup, tag

_MOST_POINTS = 60  # of a line


class Tradeoff(NamedTuple):
    """What a run reached, and what it cost.

    Attributes:
      label: of the run.
      look: of its line and marker.
      costs: [n], ascending.
      scores: [n].
      interval: lowest and highest value of the last score; None if unknown.
      tip: shown beside the pointer at the last point.
    """

    label: str
    look: Look
    costs: np.ndarray
    scores: np.ndarray
    interval: tuple[float, float] | None
    tip: str


def tradeoff_chart(
    score: str,
    runs: Sequence[Tradeoff],
    *,
    cost: str,
    chance: float | None = None,
    data: Mapping[str, object] | None = None,
) -> Markup:
    """Returns a chart of one score over one cost.

    Args:
      score: name of the upright axis with its unit, the caption.
      runs: at least one, each with at least one point.
      cost: name of the level axis with its unit.
      chance: drawn as a dashed line.
      data: further attributes of the figure, such as `data_score`.
    """
    values = [x for run in runs for x in (*run.scores, *(run.interval or ()))]
    values += [] if chance is None else [chance]
    last = max(float(run.costs[-1]) for run in runs)
    frame = Frame((0.0, last * 1.04 or 1.0), value_range(np.array(values)), LARGE)
    width, height = LARGE
    return chart_figure(
        score,
        value_axis(frame),
        number_axis(frame),
        axis_name(frame, cost),
        chance_line(frame, chance) if chance is not None else None,
        *(_draw(run, frame) for run in runs),
        description=f"{score} against {cost}",
        width=width,
        height=height + NAME,
        data=data,
    )


def _draw(run: Tradeoff, frame: Frame) -> Markup:
    count = len(run.costs)
    chosen = np.unique(np.linspace(0, count - 1, _MOST_POINTS).round().astype(int))
    points = frame.place(run.costs[chosen], run.scores[chosen])
    curve = tag("path", d=path(points), class_="line") if count > 1 else None
    x, y = map(float, points[-1])
    bar = None
    if run.interval and all(map(math.isfinite, run.interval)):
        low, high = map(frame.place_y, run.interval)
        bar = upright_interval(x, low, high)
    last = tag("g", tag("title", run.tip), marker(run.look.shape, x, y, 4.5))
    rest = [
        tag("circle", cx=px(x), cy=px(y), r=1.8, class_="dot") for x, y in points[:-1]
    ]
    return tag("g", curve, *rest, bar, last, class_=run.look.class_)
