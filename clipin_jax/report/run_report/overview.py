"""Tables about runs: progress, configs, environments."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.report.components import colour_label, fold, note
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.tables import compare_trees, key_table, table
from clipin_jax.report.text_format import NO_NUMBER, format_duration, format_number
from clipin_jax.runs.goodput import NAMES, read_goodput

STYLE = """
.runs td:last-child { white-space: nowrap }
"""


def runs_table(runs: Sequence[RunHistory]) -> Markup:
    """Returns a row for each run: its config and how far it has come."""
    head = ("run", "config", "progress", "state", "batch size", "images/s", "time")
    rows = []
    for label, run in zip(run_names(runs), runs, strict=True):
        total = run.config.get("total_steps")
        rows.append(
            [
                label,
                run.config.get("name", ""),
                f"{run.last_step:,} of {total:,}" if total else f"{run.last_step:,}",
                "finished" if run.finished else "not finished",
                run.config.get("batch_size", ""),
                _speed(run),
                format_duration(run.seconds),
            ]
        )
    return table(head, rows, class_="runs")


def goodput_table(runs: Sequence[RunHistory]) -> Markup | None:
    """Returns where the wall time of each run went; None if it was not counted."""
    rows = []
    for label, run in zip(run_names(runs), runs, strict=True):
        if summary := read_goodput(run.folder):
            total = format_duration(sum(summary.seconds.values()))
            shares = [f"{share:.0%}" for share in summary.shares.values()]
            rows.append([label, summary.starts, total, *shares])
    head = ("run", "starts", "wall time", *NAMES.values())
    return table(head, rows) if rows else None


def environment_table(runs: Sequence[RunHistory]) -> Markup | None:
    """Returns versions and machines, a column for each run; None if unknown."""
    values = compare_trees(run.environment for run in runs)
    return key_table(values, run_names(runs))


def configs_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns the keys in which the configs differ, then each config, folded."""
    folds = (
        fold(label, key_table(compare_trees([run.config]), ("value",)))
        for label, run in zip(run_names(runs), runs, strict=True)
    )
    return tag("div", _differences(runs) if len(runs) > 1 else None, *folds)


def run_names(runs: Sequence[RunHistory]) -> list[Markup]:
    """Returns the label of each run in its colour."""
    return [colour_label(run.label, index) for index, run in enumerate(runs)]


def _differences(runs: Sequence[RunHistory]) -> Markup:
    values = compare_trees(run.config for run in runs)
    different = {key: texts for key, texts in values.items() if len(set(texts)) > 1}
    differences = key_table(different, run_names(runs))
    if differences is None:
        return note("The runs have the same config.")
    return tag("div", tag("h3", "Differences"), differences)


def _speed(run: RunHistory) -> str:
    """Returns the median of images per second: a slow first step has no effect."""
    points = sorted(run.series.get("train/images_per_second", {}).values())
    return format_number(points[len(points) // 2]) if points else NO_NUMBER
