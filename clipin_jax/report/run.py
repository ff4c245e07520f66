"""What a run folder holds, read with care: a run may be killed at any byte."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError

Points = dict[int, float]  # step -> value


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
      folder: where it is.
      label: what it is called on the page, different for every run.
      config: the resolved config, nested.
      series: metric name -> step -> value; of a step logged twice, after a resume, the
        later value counts.
      environment: versions and machine, nested; {} when there is none.
      last_step: the last step that left a trace; 0 before the first.
      seconds: what the run's clock said last.
      finished: whether the run reached its end.
    """

    folder: Path
    label: str
    config: dict[str, Any]
    series: dict[str, Points]
    environment: dict[str, Any]
    last_step: int
    seconds: float
    finished: bool

    @property
    def evals(self) -> list[str]:
        """Names of the evaluations, in the config's order."""
        return list(self.config.get("evals") or {})

    def final_scores(self) -> dict[str, float]:
        """The last value of every figure of the evaluations, "NAME/figure" -> value."""
        return {
            key: points[max(points)]
            for key, points in self.series.items()
            if points and key.split("/")[0] in self.evals
        }


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders.

    Raises ClipinError for one that is no run folder, or none at all.
    """
    if not folders:
        raise ClipinError("a report needs at least one run folder")
    folders = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    return [
        _read_run(folder, label)
        for folder, label in zip(folders, _labels(folders), strict=True)
    ]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as dotted keys; sequences are values."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree} if prefix else {}
    return {
        key: value
        for name, child in tree.items()
        for key, value in flatten(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _read_run(folder: Path, label: str) -> Run:
    path = folder / "config.json"
    if not path.is_file():
        raise ClipinError(
            f"{folder} is no run folder: it has no config.json. Give the folder that a"
            " training run wrote"
        )
    config = read_json(path)
    if not isinstance(config, dict):
        raise ClipinError(f"{path} can not be read as a config: restore or remove it")
    series: dict[str, Points] = {}
    last_step, seconds = 0, 0.0
    for record in [*_read_metrics(folder), *_read_evaluations(folder)]:
        last_step = max(last_step, record["step"])
        seconds = float(record.get("time", seconds))
        for key, value in record.items():
            if "/" in key and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(key, {})[record["step"]] = float(value)
    environment = read_json(folder / "environment.json")
    return Run(
        folder=folder,
        label=label,
        config=config,
        series={key: dict(sorted(points.items())) for key, points in series.items()},
        environment=environment if isinstance(environment, dict) else {},
        last_step=last_step,
        seconds=seconds,
        finished=(folder / "DONE").exists(),
    )


def read_json(path: Path) -> Any:
    """What a JSON file says; None when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return None


def _read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl; those that are torn are passed over."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def _read_evaluations(folder: Path) -> Iterator[dict[str, Any]]:
    """The scores in eval/<step>.json, as records like those of the metrics."""
    for path in sorted(folder.glob("eval/*.json")):
        content = read_json(path)
        scores = content.get("scores") if isinstance(content, dict) else None
        if isinstance(scores, dict) and path.stem.isdecimal():
            yield {**scores, "step": int(path.stem)}


def _labels(folders: Sequence[Path]) -> list[str]:
    """As few of the last parts of each path as tell all of them apart."""
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        labels = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]
