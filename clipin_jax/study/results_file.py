"""A study's results.json: written, and read, checked once and then trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.report.tables import LOWER_IS_BETTER
from clipin_jax.study.results import Metric, Results, Run, is_number, is_value

MEND = "run the study again, or restore the file"


def as_json(results: dict[str, Any]) -> str:
    """The results as JSON with a line for each run, so that hundreds stay small."""
    runs = ",\n".join(
        json.dumps(run, separators=(",", ":")) for run in results["scores"]
    )
    rest = {key: value for key, value in results.items() if key != "scores"}
    head = json.dumps(rest, indent=1).removesuffix("\n}")
    return f'{head},\n "scores": [\n{runs}\n]}}\n'


def read_results(path: Path) -> dict[str, Any]:
    """A study's results.json, checked.

    Raises ClipinError when it is missing, damaged, lacks a key or contradicts itself.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise ClipinError(f"can not read the results {path}: {reason}") from error
    except ValueError as error:
        raise ClipinError(f"{path} is damaged ({error}): {MEND}") from error
    parse(content, str(path))
    return content


def parse(content: Any, where: str = "the study's results") -> Results:
    """Results from what JSON gave; `where` is said in errors.

    Raises ClipinError for a key that is lacking or of the wrong type, a name or seed
    that is not in the study's lists, and a run that stands there twice.
    """
    top = _Checked(content, where)
    methods, levels = top.names("methods"), top.names("levels")
    seeds = top.get("seeds", list)
    if not seeds or not all(isinstance(seed, int) for seed in seeds):
        top.fail(f'"seeds" must be a list of one or more integers, not {seeds!r:.60}')
    metrics, scores = top.get("metrics", dict), top.get("scores", list)
    if not metrics:
        top.fail("metrics is empty: name at least one")
    costs = _Checked(top.get("costs", dict), f"{where}, costs")
    for method in costs.content:
        costs.get(method, dict)
    axes = {"method": methods, "level": levels, "seed": seeds}
    runs = _runs(scores, axes, where)
    return Results(
        **{key: top.get(key, str) for key in ("name", "title", "question", "dial")},
        methods=methods,
        notes=top.get("notes", dict) if "notes" in top.content else {},
        levels=levels,
        metrics=[_metric(name, entry, runs, where) for name, entry in metrics.items()],
        seeds=seeds,
        pairs=_pairs(top, methods),
        runs=runs,
        costs=costs.content,
        settings=top.get("settings", dict),
        environment=top.get("environment", dict),
    )


class _Checked:
    """A mapping whose keys are asked for by type."""

    def __init__(self, content: Any, where: str) -> None:
        self.where = where
        if not isinstance(content, Mapping):
            self.fail("it must be a mapping of keys")
        self.content: Mapping[str, Any] = content

    def get(self, key: str, kind: type) -> Any:
        if key not in self.content:
            self.fail(f'it lacks "{key}"')
        value = self.content[key]
        if not isinstance(value, Mapping if kind is dict else kind):
            self.fail(f'"{key}" is {value!r:.60}, and not a {kind.__name__}')
        return value

    def names(self, key: str) -> list[str]:
        names = self.get(key, list)
        if not names or not all(isinstance(name, str) for name in names):
            self.fail(f'"{key}" must be a list of one or more texts, not {names!r:.60}')
        if len(set(names)) < len(names):
            self.fail(f'"{key}" names something twice: {", ".join(names)}')
        return names

    def fail(self, problem: str) -> None:
        raise ClipinError(f"{self.where}: {problem}; {MEND}")


def _runs(scores: list[Any], axes: dict[str, list], where: str) -> dict:
    runs = {}
    for i, entry in enumerate(scores):
        score = _Checked(entry, f"{where}, scores[{i}]")
        for axis, known in axes.items():
            value = score.get(axis, int if axis == "seed" else str)
            if value not in known:
                score.fail(f"its {axis} {value!r} is none of {known}")
        cell = (entry["method"], entry["level"], entry["seed"])
        if cell in runs:
            score.fail(f"the run {cell} stands there twice")
        failed = score.get("failed", str) if entry.get("failed") is not None else None
        values = score.get("values", dict) if failed is None else {}
        for name, value in values.items():
            if not is_value(value):
                score.fail(f"the value of {name} is {value!r:.60}, and not a number")
        curves = score.get("curves", dict) if "curves" in entry else {}
        for name, points in curves.items():
            if not _are_points(points):
                score.fail(f"the curve of {name} is no list of [step, value]")
        runs[cell] = Run(values, curves, failed)
    return runs


def _metric(name: str, entry: Any, runs: Mapping[Any, Run], where: str) -> Metric:
    metric = _Checked(entry, f"{where}, metrics[{name}]")
    percent = metric.get("percent", bool)
    chance = entry.get("chance")
    if chance is not None and not is_number(chance):
        metric.fail(f'"chance" is {chance!r:.60}, and not a number or null')
    values = [run.values.get(name) or 0.0 for run in runs.values()]
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0) or 1.0
    return Metric(
        name=name,
        label=metric.get("label", str),
        chance=chance,
        percent=percent,
        lower_is_better=entry.get("lower_is_better", name.endswith(LOWER_IS_BETTER)),
        digits=1 if percent else max(0, 2 - math.floor(math.log10(largest))),
    )


def _pairs(top: _Checked, methods: list[str]) -> list[tuple[str, str]]:
    if "pairs" in top.content:
        pairs = top.get("pairs", list)
    else:
        baseline = top.get("baseline", str)
        if baseline not in methods:
            top.fail(f'"baseline" is {baseline!r}, none of the methods {methods}')
        pairs = [[method, baseline] for method in methods if method != baseline]
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            top.fail(f'"pairs" has {pair!r}, which is no [method, baseline]')
        for method in pair:
            if method not in methods:
                top.fail(f'"pairs" has {method!r}, none of the methods {methods}')
    return [(method, baseline) for method, baseline in pairs]


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and all(
        isinstance(point, list | tuple)
        and len(point) == 2
        and is_number(point[0])
        and is_value(point[1])
        for point in points
    )
