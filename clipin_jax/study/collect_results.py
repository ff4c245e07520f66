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
from clipin_jax.runs.folder import DONE
from clipin_jax.study.study_file import Study
from clipin_jax.sweep.processes.run_scores import run_scores


def collect_results(study: Study, folder: Path) -> dict[str, Any]:
    """Returns the content of results.json; runs that are not done are left out.

    folder: of the study.
    """
    scores, environment = [], {}
    chances: dict[str, float] = {}
    formats: dict[str, FigureFormat] = {}
    for planned, run in study.runs(folder).items():
        axes = planned._asdict()
        if run.failure.is_file():
            scores.append(axes | {"failed": run.failure.read_text()})
        elif (run.folder / DONE).is_file():
            (history,) = read_histories([run.folder])
            environment = environment or history.environment
            scores.append(axes | run_scores(history, study.metrics)._asdict())
            chances |= _chances(history, study.metrics)
            formats |= history.figures
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


def _chances(run: RunHistory, metrics: Iterable[str]) -> dict[str, float]:
    final = run.final_scores()
    chances = {}
    for metric in metrics:
        name, _, figure = metric.partition("/")
        chance = final.get(f"{name}/chance/{figure}")
        if chance is not None:
            chances[metric] = chance
    return chances
