"""Scores against what they cost: steps, images or time; the reader chooses the axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.report.charts.intervals import look_of
from clipin_jax.report.charts.tradeoff import Tradeoff, tradeoff_chart
from clipin_jax.report.components import legend, note
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.run_history import FigureFormat, RunHistory
from clipin_jax.report.run_report.labels import run_names
from clipin_jax.report.run_report.scores import (
    chance_key,
    figure_of,
    last_value,
    score_text,
)

COSTS = ("steps", "images seen", "wall time")
_MOST = 12  # scores; the style sheet has a rule for each
_MOST_LINES = 500  # over all scores: a page must stay small
_TIMES = ((2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))


def _chosen(kind: str, count: int) -> str:
    """Returns the rules that hide the charts of values that are not chosen."""
    return "".join(
        f'.tradeoff:has(input[name={kind}][value="{i}"]:not(:checked)) '
        f'[data-{kind}="{i}"] {{ display: none }}\n'
        for i in range(count)
    )


STYLE = f"""
.tradeoff {{ display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start }}
.tradeoff .plots {{ flex: 1 1 min(100%, 22rem); max-width: 33rem; min-width: 0 }}
.tradeoff .plots .chart {{ margin-bottom: .8rem }}
.choices fieldset {{ margin: 0 0 .8rem; padding: 0; border: 0; font-size: .87rem }}
.choices legend {{ padding: 0 0 .2rem; color: var(--soft) }}
.choices label {{ display: block; padding: .1rem 0; cursor: pointer }}
.choices input {{ margin: 0 .45em 0 0; accent-color: var(--c0) }}
{_chosen("score", _MOST)}{_chosen("cost", len(COSTS))}
"""


class _Axis(NamedTuple):
    """A cost: its name with the unit, and the cost of each step of each run."""

    name: str
    costs: list[dict[int, float]]


def cost_section(runs: Sequence[RunHistory], leading: Sequence[str]) -> Markup | None:
    """Returns a chart for each leading score and cost, one of them shown at a time.

    Returns None without scores.
    """
    keys = list(leading[: max(1, min(_MOST, _MOST_LINES // len(runs)))])
    axes = _axes(runs)
    charts = [
        chart
        for number, key in enumerate(keys)
        for chart in _charts(runs, key, number, axes)
    ]
    if not charts:
        return None
    about = note(
        "A line for each run through its evaluations; the large marker is the last one,"
        " with its 95 % Wilson interval where it has one."
    )
    choices = tag(
        "form",
        _choice("Score", "score", list(map(breakable, keys))),
        _choice("Against", "cost", [axis.name for axis in axes]),
        class_="choices",
    )
    plots = tag("div", *charts, class_="plots")
    body = tag("div", plots, choices, class_="tradeoff")
    return tag("div", about, legend(run_names(runs)), body)


def _choice(title: str, kind: str, labels: Sequence[object]) -> Markup:
    """Returns radio buttons, the first one chosen."""
    buttons = []
    for number, label in enumerate(labels):
        checked = None if number else ""
        button = tag("input", type="radio", name=kind, value=number, checked=checked)
        buttons.append(tag("label", button, label))
    return tag("fieldset", tag("legend", title), *buttons)


def _axes(runs: Sequence[RunHistory]) -> list[_Axis]:
    longest = max((run.seconds for run in runs), default=0.0)
    seconds, unit = next((s, unit) for least, s, unit in _TIMES if longest >= least)
    return [
        _Axis("training steps", [{s: s for s in _steps(run)} for run in runs]),
        _Axis(
            "images seen",
            [
                {s: s * run.batch_size for s in _steps(run)} if run.batch_size else {}
                for run in runs
            ],
        ),
        _Axis(
            f"wall time, {unit}",
            [{s: t / seconds for s, t in run.times.items()} for run in runs],
        ),
    ]


def _steps(run: RunHistory) -> set[int]:
    return {step for points in run.series.values() for step in points}


def _charts(
    runs: Sequence[RunHistory], key: str, number: int, axes: Sequence[_Axis]
) -> Iterator[Markup]:
    figure = figure_of(runs, key)
    percent = figure is not None and figure.percent
    scale = 100.0 if percent else 1.0
    chance = last_value(runs, chance_key(key))
    for cost, axis in enumerate(axes):
        lines = [
            line
            for index, run in enumerate(runs)
            if (line := _line(run, key, index, axis=axis, scale=scale)) is not None
        ]
        if lines:
            yield tradeoff_chart(
                f"{key}, %" if percent else key,
                lines,
                cost=axis.name,
                chance=None if chance is None else scale * chance,
                data={"data_score": number, "data_cost": cost},
            )


def _line(
    run: RunHistory, key: str, index: int, *, axis: _Axis, scale: float
) -> Tradeoff | None:
    costs, points = axis.costs[index], run.series.get(key, {})
    known = sorted(
        (costs[step], value) for step, value in points.items() if step in costs
    )
    if not known:
        return None
    x, y = np.array(known, float).T
    figure = run.figures.get(key)
    interval = _interval(figure, float(y[-1]), scale)
    text = score_text(figure, float(y[-1]))
    tip = f"{run.label}: {text} at {x[-1]:,.4g} {axis.name.rpartition(', ')[2]}"
    return Tradeoff(run.label, look_of(index), x, scale * y, interval, tip)


def _interval(
    figure: FigureFormat | None, value: float, scale: float
) -> tuple[float, float] | None:
    found = None if figure is None else figure.interval(value)
    return None if found is None else (scale * found[0], scale * found[1])
