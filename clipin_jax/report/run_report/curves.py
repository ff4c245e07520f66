"""The curves of runs: those that matter, and the others in folded groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from clipin_jax.report.charts.intervals import look_of
from clipin_jax.report.charts.lines import Line, line_chart
from clipin_jax.report.components import chart_grid, fold, legend, note
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.run_report.labels import run_names
from clipin_jax.report.run_report.scores import (
    chance_key,
    figure_of,
    is_score,
    last_value,
)
from clipin_jax.report.text_format import count_noun

_EVALUATIONS = "Evaluations"
_HEALTH = "Health of the non-contrastive branch"
_LOSS = "train/loss"
_SPEED_METRICS = (
    "images_per_second", "mfu", "peak_memory_gib", "data_wait_fraction",
    "device_idle_fraction", "step_seconds",
)  # fmt: skip
# A page must stay small: lines beyond the first number have fewer points each, and
# charts beyond the second are left out.
_DETAILED_LINES, _MOST_LINES = 80, 700


def curves_section(
    runs: Sequence[RunHistory], leading: Sequence[str], show: str | None = None
) -> Markup:
    """Returns the curves; a note if nothing was logged.

    Args:
      runs: at least one.
      leading: keys of scores whose curves are shown beside the loss.
      show: a regular expression; the metrics that it finds are shown instead.
    """
    keys = dict.fromkeys(key for run in runs for key in run.series)
    if show:
        first = [key for key in keys if is_score(key) and re.search(show, key)]
    else:
        first = [key for key in (_LOSS, *leading) if key in keys]
    groups = _grouped_metrics(runs, keys)
    groups = {
        name: rest
        for name, own in groups.items()
        if (rest := [k for k in own if k not in first and _changes(runs, k, name)])
    }
    first = first[: max(1, _MOST_LINES // len(runs))]
    if not first and not groups:
        return note("Nothing has been logged yet.")
    count = len(first) + sum(map(len, groups.values()))
    room = _MOST_LINES // len(runs) - len(first)
    detail = min(1.0, _DETAILED_LINES / (len(runs) * min(count, len(first) + room)))
    parts = [chart_grid(_charts(runs, first, detail))]
    left_out = 0
    for name, own in groups.items():
        drawn = own[: max(0, room)]
        room -= len(drawn)
        left_out += len(own) - len(drawn)
        if drawn:
            head = tag("h3", f"{name}: {count_noun(len(drawn), 'more chart')}")
            parts.append(fold(head, chart_grid(_charts(runs, drawn, detail))))
    if left_out:
        parts.append(note(
            f"{count_noun(left_out, 'metric')} left out, for the size of this page:"
            " --show REGEX shows those that it finds."
        ))  # fmt: skip
    about = note("Across: training steps.")
    return tag("div", about, legend(run_names(runs)) if len(runs) > 1 else None, *parts)


def _grouped_metrics(
    runs: Sequence[RunHistory], keys: Iterable[str]
) -> dict[str, list[str]]:
    """Returns the metrics by the group of charts to which they belong."""
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


def _changes(runs: Sequence[RunHistory], key: str, group: str) -> bool:
    """Returns whether a metric ever changed; a score is shown in any case."""
    if group == _EVALUATIONS:
        return True
    values = {value for run in runs for value in run.series.get(key, {}).values()}
    return len(values) > 1


def _charts(
    runs: Sequence[RunHistory], keys: Iterable[str], detail: float
) -> list[Markup]:
    """Returns a chart for each metric."""
    charts = []
    for key in keys:
        lines = []
        for index, run in enumerate(runs):
            if key not in run.series:
                continue
            look = look_of(index)
            steps = np.fromiter(run.series[key], np.float64)
            values = np.fromiter(run.series[key].values(), np.float64)
            line = Line(run.label, look.colour, steps, values, style=look.style)
            lines.append(line)
        title = key.removeprefix("train/").removeprefix("health/")
        chance = last_value(runs, chance_key(key))
        charts.append(line_chart(title, lines, chance, detail=detail))
    return charts
