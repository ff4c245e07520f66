"""What a run folder holds; a run may have been killed at any byte."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.runs.folder import DONE, SOURCES
from clipin_jax.runs.run_copy import RunCopy, open_copy

Points = dict[int, float]  # step -> value
# What reading a value of JSON raises that is not of the form which a run writes.
DAMAGE = (AttributeError, LookupError, TypeError, ValueError)


class FigureFormat(NamedTuple):
    """How an evaluator shows one of its scores.

    Attributes:
      format: a template of `str.format`, such as "{:.1%}".
      lower_is_better: whether a lower value is better.
      headline: whether it is among the few that stand for the evaluation.
    """

    format: str
    lower_is_better: bool
    headline: bool = False

    @property
    def percent(self) -> bool:
        """Whether the score is a share that is shown in percent."""
        return "%" in self.format

    def text(self, value: float) -> str:
        """Returns a value as text."""
        return self.format.format(value)


@dataclass(frozen=True)
class RunHistory:
    """The config, the curves and the scores of one run.

    Attributes:
      copy: the run's folder on this machine.
      label: its name on the page, different for every run.
      config: the resolved config, nested.
      series: metric name -> step -> value. A step that was logged twice, after a
        resume, has the later value.
      figures: "EVALUATION/FIGURE" -> how it is shown; figures that are not shown are
        absent.
      environment: versions and machine, nested; {} if unknown.
      last_step: the last step in any file; 0 if there is none.
      seconds: the run's clock at its last line.
      finished: whether the run is complete; a mean of checkpoints is.
    """

    copy: RunCopy
    label: str
    config: dict[str, Any]
    series: dict[str, Points]
    figures: dict[str, FigureFormat]
    environment: dict[str, Any]
    last_step: int
    seconds: float
    finished: bool

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        return self.copy.folder

    @property
    def evals(self) -> list[str]:
        """Names of the evaluations, in the config's order."""
        return list(self.config.get("evals") or {})

    @property
    def described_evals(self) -> set[str]:
        """Names of the evaluations whose figures are known."""
        return {key.split("/")[0] for key in self.figures}

    def final_scores(self) -> dict[str, float]:
        """Returns the last value of every figure, "EVALUATION/FIGURE" -> value."""
        return {
            key: points[max(points)]
            for key, points in self.series.items()
            if points and key.split("/")[0] in self.evals
        }


def read_histories(folders: Sequence[str | Path]) -> list[RunHistory]:
    """Reads run folders; a folder that is given twice is read once.

    Raises:
      ClipinError: a folder holds no run, or there are no folders.
    """
    if not folders:
        raise ClipinError("a report needs at least one run folder")
    names = list(dict.fromkeys(map(storage.absolute, folders)))
    return [
        read_history(open_copy(name), label)
        for name, label in zip(names, run_labels(names), strict=True)
    ]


def run_labels(folders: Sequence[str]) -> list[str]:
    """Returns as few of the last parts of absolute paths or URLs as make all differ."""
    parts = [Path(folder).parts for folder in folders]
    for depth in range(1, max(map(len, parts))):
        labels = ["/".join(each[-depth:]) for each in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(folders)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return None


def read_history(copy: RunCopy, label: str) -> RunHistory:
    """Reads a run folder of this machine.

    Args:
      copy: the folder.
      label: its name on the page.

    Raises:
      ClipinError: the folder holds no run, or its config is damaged.
    """
    folder = copy.folder
    path = folder / "config.json"
    if not path.is_file():
        raise ClipinError(
            f"{copy.name} is not a run folder: it has no config.json. Give the folder"
            " that a training run wrote"
        )
    config = read_json(path)
    if not isinstance(config, dict):
        raise ClipinError(f"{path} is damaged: restore it, or leave out the run")
    series: dict[str, Points] = {}
    last_step, seconds = 0, 0.0
    for record in [*_metrics_records(folder), *_evaluation_records(folder)]:
        last_step = max(last_step, record["step"])
        if isinstance(record.get("time"), int | float):
            seconds = float(record["time"])
        for key, value in record.items():
            if "/" in key and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(key, {})[record["step"]] = float(value)
    figures = _figures(folder)
    environment = read_json(folder / "environment.json")
    return RunHistory(
        copy=copy,
        label=label,
        config=config,
        series={key: dict(sorted(points.items())) for key, points in series.items()},
        figures=figures,
        environment=environment if isinstance(environment, dict) else {},
        last_step=last_step,
        seconds=seconds,
        finished=any((folder / name).exists() for name in (DONE, SOURCES)),
    )


def _metrics_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of metrics.jsonl; damaged ones are skipped."""
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


def _evaluation_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the scores of the evaluations, in the form of the metrics' lines."""
    for step, content in _evaluations(folder):
        scores = content.get("scores")
        if isinstance(scores, dict):
            yield {**scores, "step": step}


def _evaluations(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields step and content of each eval/<step>.json; damaged ones are skipped."""
    for path in sorted(folder.glob("eval/*.json")):
        content = read_json(path)
        if isinstance(content, dict) and path.stem.isdecimal():
            yield int(path.stem), content


def _figures(folder: Path) -> dict[str, FigureFormat]:
    """Returns how scores are shown, by the run and by its evaluations."""
    contents = [content.get("figures") for _, content in _evaluations(folder)]
    return {
        key: shown
        for figures in [read_json(folder / "figures.json"), *contents]
        if isinstance(figures, dict)
        for key, figure in figures.items()
        if (shown := _figure(figure))
    }


def _figure(figure: Any) -> FigureFormat | None:
    """Returns how a score is shown; None if the file is damaged."""
    try:
        shown = FigureFormat(
            figure["format"],
            figure["better"] == "lower",
            bool(figure.get("headline")),
        )
        shown.text(0.5)
    except DAMAGE:
        return None
    return shown
