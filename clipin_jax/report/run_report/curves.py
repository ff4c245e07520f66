"""The curves of runs: a chart for each metric, in groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clipin_jax.report.charts.lines import Line, line_chart
from clipin_jax.report.components import (
    chart_grid,
    colour_label,
    fold,
    legend,
    note,
)
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.run_report.scores import chance_key, figure_of, is_score

_EVALUATIONS = "Evaluations"
_HEALTH = "Health of the non-contrastive branch"
_SPEED_METRICS = (
    "images_per_second", "mfu", "peak_memory_gib", "data_wait_fraction",
    "device_idle_fraction", "step_seconds",
)  # fmt: skip


def curves_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns all curves; a note if nothing was logged."""
    parts = []
    for group, keys in _grouped_metrics(runs).items():
        charts = _charts(runs, keys, keep_constant=group == _EVALUATIONS)
        if charts:
            parts.append(fold(tag("h3", group), chart_grid(charts), unfolded=True))
    if not parts:
        return note("Nothing has been logged yet.")
    labels = (colour_label(run.label, index) for index, run in enumerate(runs))
    return tag("div", legend(labels) if len(runs) > 1 else None, *parts)


def _grouped_metrics(runs: Sequence[RunHistory]) -> dict[str, list[str]]:
    """Returns the metrics by the group of charts to which they belong."""
    keys = dict.fromkeys(key for run in runs for key in run.series)
    evals = {name for run in runs for name in run.evals}
    names = ("Loss", _EVALUATIONS, _HEALTH, "Speed", "Optimization")
    groups: dict[str, list[str]] = {name: [] for name in names}
    for key in keys:
        group = _group(key, evals)
        if group != _EVALUATIONS or _has_chart(runs, key):
            groups[group].append(key)
    groups["Loss"].sort(key=lambda key: key.count("/"))  # the total before its parts
    # Metrics of the same name, which are comparable, stand side by side.
    groups[_HEALTH].sort(key=lambda key: key.rpartition("/")[::-1])
    return groups


def _group(key: str, evals: set[str]) -> str:
    first, last = key.split("/")[0], key.split("/")[-1]
    if first in evals:
        return _EVALUATIONS
    if first == "health":
        return _HEALTH
    if last in _SPEED_METRICS:
        return "Speed"
    return "Loss" if last.endswith("loss") else "Optimization"


def _has_chart(runs: Sequence[RunHistory], key: str) -> bool:
    """Returns whether a score is one that its evaluator shows."""
    name = key.split("/")[0]
    known = any(name in run.described_evals for run in runs)
    return is_score(key) and (not known or figure_of(runs, key) is not None)


def _charts(
    runs: Sequence[RunHistory], keys: Iterable[str], *, keep_constant: bool
) -> list[Markup]:
    """Returns a chart for each metric.

    keep_constant: whether a metric that never changed has one too.
    """
    charts = []
    for key in keys:
        lines = [
            Line(
                label=run.label,
                colour=index,
                steps=np.fromiter(run.series[key], np.float64),
                values=np.fromiter(run.series[key].values(), np.float64),
            )
            for index, run in enumerate(runs)
            if key in run.series
        ]
        values = np.concatenate([line.values for line in lines])
        if keep_constant or np.ptp(values):
            title = key.removeprefix("train/").removeprefix("health/")
            charts.append(line_chart(title, lines, _chance(runs, key)))
    return charts


def _chance(runs: Sequence[RunHistory], key: str) -> float | None:
    for run in runs:
        points = run.series.get(chance_key(key))
        if points:
            return points[max(points)]
    return None
