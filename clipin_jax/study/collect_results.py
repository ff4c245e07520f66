"""Collects the scores in a study's run folders: the content of its results.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipin_jax.config import resolve
from clipin_jax.report.run_history import (
    FigureFormat,
    RunHistory,
    read_histories,
    read_json,
)
from clipin_jax.study.study_file import PlannedRun, Study

_DECIMALS = 6  # more than a share of a few thousand images has


def failure_file(folder: Path, planned: PlannedRun) -> Path:
    """Returns the file that says why a run failed."""
    return (folder / "failed" / planned.folder).with_suffix(".txt")


def collect_results(study: Study, folder: Path) -> dict[str, Any]:
    """Returns the content of results.json; runs that are not done are left out.

    folder: of the study.
    """
    scores, environment = [], {}
    chances: dict[str, float] = {}
    formats: dict[str, FigureFormat] = {}
    for planned in study.configs:
        failure = failure_file(folder, planned)
        axes = planned._asdict()
        if failure.is_file():
            scores.append(axes | {"failed": failure.read_text()})
        elif (folder / planned.folder / "DONE").is_file():
            (run,) = read_histories([folder / planned.folder])
            environment = environment or run.environment
            scores.append(axes | _scores(run, study.metrics))
            chances |= _chances(run, study.metrics)
            formats |= run.figures
    return study.facts | {
        "metrics": {
            name: _metric(label, formats.get(name), chances.get(name))
            for name, label in study.metrics.items()
        },
        "scores": scores,
        "costs": read_json(folder / "costs.json") or {},
        "settings": json.loads(json.dumps(study.settings, default=resolve)),
        "environment": environment,
    }


def _metric(
    label: str, format_: FigureFormat | None, chance: float | None
) -> dict[str, Any]:
    return {
        "label": label,
        "percent": format_ is None or format_.percent,
        "lower_is_better": format_ is not None and format_.lower_is_better,
        "chance": chance,
    }


def _scores(run: RunHistory, metrics: Iterable[str]) -> dict[str, Any]:
    final = run.final_scores()
    values = {name: _rounded(final.get(name)) for name in metrics}
    curves = {
        name: [[step, _rounded(value)] for step, value in run.series[name].items()]
        for name in metrics
        if len(run.series.get(name, {})) > 1
    }
    return {"values": values, "curves": curves}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)


def _chances(run: RunHistory, metrics: Iterable[str]) -> dict[str, float]:
    final = run.final_scores()
    chances = {}
    for metric in metrics:
        name, _, figure = metric.partition("/")
        chance = final.get(f"{name}/chance/{figure}")
        if chance is not None:
            chances[metric] = chance
    return chances
