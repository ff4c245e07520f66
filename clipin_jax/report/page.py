"""The page from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from clipin_jax.report.charts import COLOURS, Line, line_chart
from clipin_jax.report.document import document
from clipin_jax.report.gallery import pairs_section, retrievals_section
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run import Run
from clipin_jax.report.tables import (
    NO_CONTEST,
    config_table,
    differences_table,
    environment_table,
    name_of,
    runs_table,
    scores_table,
)

HEALTH = "Health of the non-contrastive branch"
SPEED = ("images_per_second", "data_wait_fraction", "step_seconds")


def page(runs: list[Run]) -> str:
    """The whole document."""
    names = dict.fromkeys(str(run.config.get("name", run.label)) for run in runs)
    title = " and ".join(names) if len(names) < 4 else f"{len(runs)} runs"
    sections = {
        "Runs": runs_table(runs),
        "Scores": _scores(runs),
        "Curves": _curves(runs),
        "Training pairs": _pairs(runs),
        "Retrievals": _retrievals(runs),
        "Config": _configs(runs),
        "Environment": environment_table(runs),
    }
    return document(title, sections)


def _scores(runs: list[Run]) -> Markup:
    table = scores_table(runs)
    if table is None:
        return _note("No evaluation has run yet.")
    note = (
        "The last evaluation of each run. The bar is the score, its mark is chance;"
        " ties count against the model."
    )
    return tag("div", _note(note), table)


def _curves(runs: list[Run]) -> Markup:
    keys = list(dict.fromkeys(key for run in runs for key in run.series))
    evals = {name for run in runs for name in run.evals}
    groups: dict[str, list[str]] = {
        "Loss": [],
        "Evaluations": [],
        HEALTH: [],
        "Speed": [],
        "Optimisation": [],
    }
    for key in keys:
        group = _group(key, evals)
        if group:
            groups[group].append(key)
    groups["Loss"].sort(key=lambda key: key.count("/"))  # the total before its parts
    # By kind of figure first: what is comparable stands side by side.
    groups[HEALTH].sort(key=lambda key: key.rpartition("/")[::-1])
    parts = []
    for group, members in groups.items():
        charts = _charts(runs, members, keep_flat=group == "Evaluations")
        if charts:
            grid = tag("div", *charts, class_="charts")
            parts.append(
                tag("details", tag("summary", tag("h3", group)), grid, open="")
            )
    if not parts:
        return _note("Nothing has been logged yet.")
    names = (name_of(run, i) for i, run in enumerate(runs))
    legend = tag("p", *names, class_="legend") if len(runs) > 1 else None
    return tag("div", legend, *parts)


def _group(key: str, evals: set[str]) -> str | None:
    """Which group of charts a metric belongs to; None leaves it out."""
    first, last = key.split("/")[0], key.split("/")[-1]
    if first in evals:
        shown = "/chance/" not in key and last not in NO_CONTEST
        return "Evaluations" if shown else None
    if first == "health":
        return HEALTH
    if last in SPEED:
        return "Speed"
    return "Loss" if last.endswith("loss") else "Optimisation"


def _charts(runs: list[Run], keys: Iterable[str], *, keep_flat: bool) -> list[Markup]:
    """A chart a metric; one that never moved says nothing, unless it is a score."""
    charts = []
    for key in keys:
        lines = [
            Line(
                run.label,
                position % COLOURS,
                np.fromiter(run.series[key], np.float64),
                np.fromiter(run.series[key].values(), np.float64),
            )
            for position, run in enumerate(runs)
            if key in run.series
        ]
        values = np.concatenate([line.values for line in lines])
        if keep_flat or np.ptp(values):
            title = key.removeprefix("train/").removeprefix("health/")
            charts.append(line_chart(title, lines, _chance(runs, key)))
    return charts


def _chance(runs: list[Run], key: str) -> float | None:
    name, _, figure = key.partition("/")
    for run in runs:
        points = run.series.get(f"{name}/chance/{figure}")
        if points:
            return points[max(points)]
    return None


def _pairs(runs: list[Run]) -> Markup | None:
    return _per_run(runs, pairs_section)


def _retrievals(runs: list[Run]) -> Markup | None:
    def of_run(run: Run) -> Markup | None:
        parts = []
        for name in run.evals:
            shown = retrievals_section(run, name)
            if shown is not None:
                parts += [tag("h3", name), shown]
        return tag("div", *parts) if parts else None

    return _per_run(runs, of_run)


def _configs(runs: list[Run]) -> Markup:
    table = differences_table(runs)
    if len(runs) == 1:
        difference = None
    elif table is None:
        difference = _note("The runs have the same config.")
    else:
        difference = tag("div", tag("h3", "What differs"), table)
    details = (
        tag("details", tag("summary", name_of(run, i)), config_table(run))
        for i, run in enumerate(runs)
    )
    return tag("div", difference, *details)


def _per_run(runs: list[Run], part: Callable[[Run], Markup | None]) -> Markup | None:
    """A part of each run that has it, the first one unfolded."""
    found = [(i, run, part(run)) for i, run in enumerate(runs)]
    found = [entry for entry in found if entry[2] is not None]
    details = (
        tag(
            "details",
            tag("summary", name_of(run, i)),
            content,
            open="" if i == found[0][0] else None,
        )
        for i, run, content in found
    )
    return tag("div", *details) if found else None


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")
