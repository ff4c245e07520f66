"""The charts of a study: scores over the dial, training curves, bars of intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from clipin_jax.report import components
from clipin_jax.report.charts.axes import LARGE
from clipin_jax.report.charts.intervals import (
    IntervalPoint,
    IntervalSeries,
    Look,
    interval_bar,
    interval_chart,
    look_of,
    series_label,
)
from clipin_jax.report.charts.lines import Line, line_chart
from clipin_jax.report.markup import Markup
from clipin_jax.study.results import Metric, StudyResults
from clipin_jax.study.statistics import Comparison, mean_over_seeds
from clipin_jax.study.study_file import PlannedRun

_MOST_TOGETHER = 6  # methods in one chart; more are shown pair by pair


def method_label(results: StudyResults, method: str) -> Markup:
    """Returns a method's name behind its line and marker."""
    return series_label(method, _look(results, method))


def legend(results: StudyResults) -> Markup:
    """Returns the names of all methods with their lines and markers."""
    return components.legend(method_label(results, m) for m in results.methods)


def dial_chart(results: StudyResults, metric: Metric) -> Markup | None:
    """Returns a metric over the levels, with intervals; None without any number."""
    series = [
        IntervalSeries(
            _look(results, method),
            [_point(results, metric, method, level) for level in results.levels],
        )
        for method in results.methods
    ]
    return interval_chart(
        metric.title,
        results.levels,
        series,
        chance=metric.shown_chance,
        description=f"{metric.title} over {results.dial}",
        size=LARGE,
    )


def curve_charts(results: StudyResults, name: str) -> list[Markup]:
    """Returns a metric over the steps: mean and range over the seeds, level by level.

    Where one chart cannot hold all methods, each pair has a chart.
    """
    metric = next((m for m in results.metrics if m.name == name), None)
    chance = None if metric is None else metric.shown_chance
    charts = []
    for group, methods in _method_groups(results).items():
        for level in results.levels:
            lines = [
                line
                for method in methods
                if (line := _curve(results, name, method, level)) is not None
            ]
            if lines:
                at = f"{results.dial} {level}" if results.dial else ""
                title = ", ".join(part for part in (group, at) if part)
                title = title or (name if metric is None else metric.title)
                charts.append(line_chart(title, lines, chance))
    return charts


def comparison_bar(comparison: Comparison, span: float) -> Markup:
    """Returns a difference and its interval beside zero; the bar shows ±span."""
    test = comparison.test
    good, bad = "var(--good)", "var(--bad)"
    if comparison.metric.lower_is_better:
        good, bad = bad, good
    colours = {"above": good, "below": bad}
    colour = colours.get(comparison.verdict, "var(--soft)")
    return interval_bar(test.mean, test.low, test.high, span=span, colour=colour)


def _look(results: StudyResults, method: str) -> Look:
    return look_of(results.methods.index(method))


def _point(
    results: StudyResults, metric: Metric, method: str, level: str
) -> IntervalPoint | None:
    mean = mean_over_seeds(results, metric, method, level)
    if not mean.n:
        return None
    value = f"{metric.text(mean.mean)}, {mean.n} of {len(results.seeds)} seeds"
    return IntervalPoint(
        mean=mean.mean * metric.scale,
        low=mean.low * metric.scale,
        high=mean.high * metric.scale,
        tip=f"{method}, {results.dial} {level}: {value}",
    )


def _method_groups(results: StudyResults) -> Mapping[str, Iterable[str]]:
    """Returns the methods of each chart by its title; "" for a chart with all."""
    if len(results.methods) <= _MOST_TOGETHER:
        return {"": results.methods}
    return {f"{pair[0]} and {pair[1]}": pair for pair in results.pairs}


def _curve(results: StudyResults, name: str, method: str, level: str) -> Line | None:
    """Returns the mean and range at each step where a seed has a number."""
    values: dict[float, list[float]] = {}
    for seed in results.seeds:
        run = results.runs.get(PlannedRun(method, level, seed))
        for step, value in run.curves.get(name, ()) if run is not None else ():
            if value is not None and math.isfinite(value):
                values.setdefault(step, []).append(value)
    if not values:
        return None
    scale = next((m.scale for m in results.metrics if m.name == name), 1.0)
    steps = sorted(values)
    mean, low, high = (
        np.array([float(f(values[step])) * scale for step in steps])
        for f in (np.mean, min, max)
    )
    look = _look(results, method)
    return Line(
        label=method,
        colour=look.colour,
        steps=np.array(steps, float),
        values=mean,
        band=(low, high) if len(steps) > 1 else None,
        style=look.style,
    )
