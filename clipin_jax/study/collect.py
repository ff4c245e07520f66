"""What the run folders of a study hold, as the dict that its page is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipin_jax.config import resolve
from clipin_jax.report.run import Run, read_json, read_runs
from clipin_jax.study.grid import Cell, Study


def failure_file(folder: Path, cell: Cell) -> Path:
    """Where it stands why a run of a study failed."""
    return (folder / "failed" / cell.folder).with_suffix(".txt")


def collect(study: Study, folder: Path) -> dict[str, Any]:
    """The content of results.json, see `study.results`; runs that miss are left out."""
    scores, environment = [], {}
    chances: dict[str, float] = {}
    for cell in study.configs:
        failed = failure_file(folder, cell)
        place = dict(method=cell.method, level=cell.level, seed=cell.seed)
        if failed.is_file():
            scores.append(place | {"failed": failed.read_text()})
        elif (folder / cell.folder / "DONE").is_file():
            (run,) = read_runs([folder / cell.folder])
            environment = environment or run.environment
            scores.append(place | _scores(run, list(study.metrics)))
            chances |= _chances(run, list(study.metrics))
    metrics = {
        name: {
            "label": label,
            "percent": not name.endswith("median_rank"),
            "chance": chances.get(name),
        }
        for name, label in study.metrics.items()
    }
    return study.facts | {
        "metrics": metrics,
        "scores": scores,
        "costs": read_json(folder / "costs.json") or {},
        "settings": json.loads(json.dumps(study.settings, default=resolve)),
        "environment": environment,
    }


def _scores(run: Run, metrics: list[str]) -> dict[str, Any]:
    final = run.final_scores()
    curves = {
        name: [[step, _short(value)] for step, value in run.series[name].items()]
        for name in metrics
        if len(run.series.get(name, {})) > 1
    }
    values = {name: _short(final.get(name)) for name in metrics}
    return {"values": values, "curves": curves}


def _short(value: float | None) -> float | None:
    # Six decimals are more than a share of a few thousand pictures has.
    return None if value is None else round(value, 6)


def _chances(run: Run, metrics: list[str]) -> dict[str, float]:
    final = run.final_scores()
    found = {}
    for metric in metrics:
        name, _, figure = metric.partition("/")
        chance = final.get(f"{name}/chance/{figure}")
        if chance is not None:
            found[metric] = chance
    return found
