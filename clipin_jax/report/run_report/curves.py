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
    first = _first_metrics(runs, leading, show)
    groups = {"": first, **_grouped_metrics(runs, first)}
    count = sum(map(len, groups.values()))
    if not count:
        return note("Nothing has been logged yet.")
    room = limit = max(1, _MOST_LINES // len(runs))  # charts
    detail = min(1.0, _DETAILED_LINES / (len(runs) * min(count, limit)))
    parts = []
    for name, keys in groups.items():
        drawn = keys[:room]
        room -= len(drawn)
        charts = chart_grid(_charts(runs, drawn, detail)) if drawn else None
        if charts and name:
            head = f"{name}: {count_noun(len(drawn), 'more chart')}"
            charts = fold(tag("h3", head), charts)
        parts.append(charts)
    if count > limit:
        about = f"{count_noun(count - limit, 'metric')} left out, for the size"
        parts.append(note(f"{about} of this page: --show REGEX shows what it finds."))
    names = legend(run_names(runs)) if len(runs) > 1 else None
    return tag("div", note("Across: training steps."), names, *parts)


def _first_metrics(
    runs: Sequence[RunHistory], leading: Sequence[str], show: str | None
) -> list[str]:
    """Returns the metrics whose charts are not folded."""
    keys = dict.fromkeys(key for run in runs for key in run.series)
    if show:
        return [key for key in keys if is_score(key) and re.search(show, key)]
    return [key for key in (_LOSS, *leading) if key in keys]


def _grouped_metrics(
    runs: Sequence[RunHistory], first: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the other metrics that change by the group to which they belong."""
    keys = dict.fromkeys(key for run in runs for key in run.series)
    evals = {name for run in runs for name in run.evals}
    names = ("Loss", _EVALUATIONS, _HEALTH, "Speed", "Optimization")
    groups: dict[str, list[str]] = {name: [] for name in names}
    for key in keys:
        group = _group(key, evals)
        shown = _has_chart if group == _EVALUATIONS else _changes
        if key not in first and shown(runs, key):
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


def _changes(runs: Sequence[RunHistory], key: str) -> bool:
    """Returns whether a metric ever changed."""
    values = {value for run in runs for value in run.series.get(key, {}).values()}
    return len(values) > 1


def lines_of(runs: Sequence[RunHistory], key: str) -> list[Line]:
    """Returns a line for each run that has points of a metric."""
    lines = []
    for index, run in enumerate(runs):
        if points := run.series.get(key):
            look = look_of(index)
            steps = np.fromiter(points, np.float64)
            values = np.fromiter(points.values(), np.float64)
            line = Line(run.label, look.colour, steps, values, style=look.style)
            lines.append(line)
    return lines


def _charts(
    runs: Sequence[RunHistory], keys: Iterable[str], detail: float
) -> list[Markup]:
    """Returns a chart for each metric."""
    charts = []
    for key in keys:
        lines = lines_of(runs, key)
        title = key.removeprefix("train/").removeprefix("health/")
        chance = last_value(runs, chance_key(key))
        charts.append(line_chart(title, lines, chance, detail=detail))
    return charts
