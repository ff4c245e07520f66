"""Writes and reads a study's results.json, and checks it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from clipin_jax.errors import ClipinError
from clipin_jax.study.results import (
    Metric,
    RunResult,
    StudyResults,
    is_number,
    is_value,
)
from clipin_jax.study.study_file import PlannedRun

_FIX = "run the study again, or restore the file"


def results_text(results: Mapping[str, Any]) -> str:
    """Returns results as JSON with a line for each run, to keep the file small."""
    runs = ",\n".join(
        json.dumps(run, separators=(",", ":")) for run in results["scores"]
    )
    rest = {key: value for key, value in results.items() if key != "scores"}
    head = json.dumps(rest, indent=1).removesuffix("\n}")
    return f'{head},\n "scores": [\n{runs}\n]}}\n'


def read_results(path: Path) -> dict[str, Any]:
    """Returns the content of a results.json, checked.

    Raises:
      ClipinError: the file is missing or damaged, or `parse_results` raises.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipinError(
            f"cannot read the results {path}: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise ClipinError(f"{path} is damaged ({error}): {_FIX}") from error
    parse_results(content, str(path))
    return content


def parse_results(
    content: Mapping[str, Any], where: str = "the study's results"
) -> StudyResults:
    """Returns results from the content of a results.json.

    where: names the file in error messages.

    Raises:
      ClipinError: a key is missing or has the wrong type, a run has a method, level or
        seed that is not in the study's lists, or a run occurs twice.
    """
    top = _CheckedMapping(content, where)
    methods, levels = top.names("methods"), top.names("levels")
    seeds = _seeds(top)
    metrics, scores = top.get("metrics", dict), top.get("scores", list)
    if not metrics:
        top.fail("metrics is empty: name at least one")
    axes = {"method": methods, "level": levels, "seed": seeds}
    runs = _runs(scores, axes, where)
    return StudyResults(
        **{key: top.get(key, str) for key in ("name", "title", "question", "dial")},
        methods=methods,
        notes=top.get("notes", dict) if "notes" in top.content else {},
        levels=levels,
        metrics=[
            _metric(name, entry, runs.values(), where)
            for name, entry in metrics.items()
        ],
        seeds=seeds,
        pairs=_pairs(top, methods),
        runs=runs,
        costs=_costs(top),
        settings=top.get("settings", dict),
        environment=top.get("environment", dict),
    )


class _CheckedMapping:
    """A mapping whose values are checked when they are read."""

    def __init__(self, content: Any, where: str) -> None:
        self.where = where
        if not isinstance(content, Mapping):
            self.fail("it must be a mapping of keys")
        self.content: Mapping[str, Any] = content

    def get(self, key: str, kind: type) -> Any:
        """Returns the value of a key, which must be of a type."""
        if key not in self.content:
            self.fail(f'"{key}" is missing')
        value = self.content[key]
        if not isinstance(value, Mapping if kind is dict else kind):
            self.fail(f'"{key}" is {value!r:.60}, not a {kind.__name__}')
        return value

    def names(self, key: str) -> list[str]:
        """Returns a list of one or more texts, all different."""
        names = self.get(key, list)
        if not names or not all(isinstance(name, str) for name in names):
            self.fail(f'"{key}" must be a list of one or more texts, not {names!r:.60}')
        if len(set(names)) < len(names):
            self.fail(f'"{key}" has a name twice: {", ".join(names)}')
        return names

    def fail(self, problem: str) -> NoReturn:
        """Raises a ClipinError."""
        raise ClipinError(f"{self.where}: {problem}; {_FIX}")


def _seeds(top: _CheckedMapping) -> list[int]:
    seeds = top.get("seeds", list)
    if not seeds or not all(isinstance(seed, int) for seed in seeds):
        top.fail(f'"seeds" must be a list of one or more integers, not {seeds!r:.60}')
    return seeds


def _costs(top: _CheckedMapping) -> Mapping[str, Mapping[str, Any]]:
    costs = _CheckedMapping(top.get("costs", dict), f"{top.where}, costs")
    for method in costs.content:
        costs.get(method, dict)
    return costs.content


def _runs(
    scores: list[Any], axes: Mapping[str, list[Any]], where: str
) -> dict[PlannedRun, RunResult]:
    """Returns the runs; axes: the values that "method", "level" and "seed" may have."""
    runs = {}
    for i, entry in enumerate(scores):
        score = _CheckedMapping(entry, f"{where}, scores[{i}]")
        for axis, known in axes.items():
            value = score.get(axis, int if axis == "seed" else str)
            if value not in known:
                score.fail(f"its {axis} {value!r} is not among {known}")
        planned = PlannedRun(entry["method"], entry["level"], entry["seed"])
        if planned in runs:
            score.fail(f"the run {planned} occurs twice")
        runs[planned] = _run(score)
    return runs


def _run(score: _CheckedMapping) -> RunResult:
    if score.content.get("failed") is not None:
        failed, values = score.get("failed", str), {}
    else:
        failed, values = None, score.get("values", dict)
    for name, value in values.items():
        if not is_value(value):
            score.fail(f"the value of {name} is {value!r:.60}, not a number")
    curves = score.get("curves", dict) if "curves" in score.content else {}
    for name, points in curves.items():
        if not _are_points(points):
            score.fail(f"the curve of {name} is not a list of [step, value]")
    return RunResult(values, curves, failed)


def _metric(name: str, entry: Any, runs: Iterable[RunResult], where: str) -> Metric:
    metric = _CheckedMapping(entry, f"{where}, metrics[{name}]")
    percent = metric.get("percent", bool)
    chance = entry.get("chance")
    if chance is not None and not is_number(chance):
        metric.fail(f'"chance" is {chance!r:.60}, not a number or null')
    values = [run.values.get(name) or 0.0 for run in runs]
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0) or 1.0
    return Metric(
        name=name,
        label=metric.get("label", str),
        chance=chance,
        percent=percent,
        lower_is_better=entry.get("lower_is_better", False),
        digits=1 if percent else max(0, 2 - math.floor(math.log10(largest))),
    )


def _pairs(top: _CheckedMapping, methods: list[str]) -> list[tuple[str, str]]:
    if "pairs" in top.content:
        pairs = top.get("pairs", list)
    else:
        baseline = top.get("baseline", str)
        if baseline not in methods:
            top.fail(f'"baseline" is {baseline!r}, not among the methods {methods}')
        pairs = [[method, baseline] for method in methods if method != baseline]
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            top.fail(f'"pairs" has {pair!r}, not a [method, baseline]')
        for method in pair:
            if method not in methods:
                top.fail(f'"pairs" has {method!r}, not among the methods {methods}')
    return [(method, baseline) for method, baseline in pairs]


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and all(
        isinstance(point, list | tuple)
        and len(point) == 2
        and is_number(point[0])
        and is_value(point[1])
        for point in points
    )
