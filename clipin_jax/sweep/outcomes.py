"""The outcomes of a sweep, read from its run folders: what its page shows."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipin_jax.report.run_history import RunHistory, read_histories
from clipin_jax.runs.owner import seems_owned
from clipin_jax.sweep.definition import Sweep
from clipin_jax.sweep.processes.run_scores import run_scores
from clipin_jax.sweep.processes.runs import Run
from clipin_jax.sweep.space.designs import Assignment

DONE, FAILED, DIVERGED = "done", "failed", "diverged"
STOPPED, RUNS, WAITS = "stopped early", "runs", "has not run"
STATES = (DONE, STOPPED, FAILED, DIVERGED, RUNS, WAITS)
_NOT_FINITE = "nonfinite_batches.json"  # a run that stopped because of them has it


@dataclass(frozen=True)
class Point:
    """A point of a sweep and what came of it.

    Attributes:
      number: from 1 on, in the order in which points were listed or asked for.
      assignment: config key -> value, as an override writes it.
      state: of `STATES`.
      values: of each goal, the mean over the seeds; None unless all seeds are done.
      curve: [step, value] of the first goal, the mean over seeds.
      seconds: of all of its runs.
      reason: why it failed, or how far it came.
      folders: of its runs, in the folder of the sweep.
    """

    number: int
    assignment: Assignment
    state: str
    values: list[float | None]
    curve: list[list[float]]
    seconds: float
    reason: str
    folders: list[str]


def planned_points(sweep: Sweep, home: Path) -> list[tuple[Assignment, bool]]:
    """Returns the points so far, and whether each was stopped early."""
    if sweep.has_journal:
        from clipin_jax.sweep.search.journal import trial_points  # it needs Optuna

        return trial_points(sweep, home)
    return [(assignment, False) for assignment in sweep.assignments()]


def collect_points(sweep: Sweep, home: Path) -> list[Point]:
    """Returns the points of a sweep, which may be unfinished."""
    points = planned_points(sweep, home)
    return [
        _point(sweep, number, assignment, sweep.runs(assignment, home), stopped)
        for number, (assignment, stopped) in enumerate(points, start=1)
    ]


def ranked(sweep: Sweep, points: Iterable[Point]) -> list[Point]:
    """Returns the points that are done, the best in the first goal first."""
    goal = sweep.goals[0]
    losses = {
        point.number: goal.loss(point.values[0])
        for point in points
        if point.state == DONE and point.values[0] is not None
    }
    done = [point for point in points if point.number in losses]
    return sorted(done, key=lambda point: losses[point.number])


def pareto_front(sweep: Sweep, points: Iterable[Point]) -> list[Point]:
    """Returns the points that are done and that no other beats in every goal."""
    done = ranked(sweep, points)
    losses = {p.number: _losses(sweep, p) for p in done}

    def is_beaten(point: Point) -> bool:
        mine = losses[point.number]
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in losses.values()
        )

    return [point for point in done if not is_beaten(point)]


def _losses(sweep: Sweep, point: Point) -> list[float]:
    values = zip(sweep.goals, point.values, strict=True)
    return [goal.loss(value) for goal, value in values if value is not None]


def count_states(points: Iterable[Point]) -> str:
    """Returns how many points are in each state: "10 done, 2 failed"."""
    counts = Counter(point.state for point in points)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def results_json(sweep: Sweep, points: Sequence[Point]) -> str:
    """Returns the content of results.json."""
    content = {
        "sweep": sweep.name,
        "config": sweep.spec,
        "metrics": [goal.name for goal in sweep.goals],
        "points": [asdict(point) for point in points],
    }
    return json.dumps(content, indent=1) + "\n"


def _point(
    sweep: Sweep, number: int, assignment: Assignment, runs: list[Run], stopped: bool
) -> Point:
    states = [_state(run) for run in runs]
    begun = [run.folder for run in runs if (run.folder / "config.json").is_file()]
    histories = read_histories(begun) if begun else []
    state, reason = _together(states, stopped)
    values: list[float | None] = [None] * len(sweep.goals)
    if state == DONE:
        values = _means(sweep, histories)
        if None in values:
            state, reason = DIVERGED, "it has no number in the metric"
    elif state == STOPPED:
        reason = f"at step {max((h.last_step for h in histories), default=0)}"
    return Point(
        number=number,
        assignment=assignment,
        state=state,
        values=values,
        curve=_mean_curve(sweep, histories),
        seconds=sum(history.seconds for history in histories),
        reason=reason,
        folders=[str(run.place) for run in runs],
    )


def _state(run: Run) -> tuple[str, str]:
    """Returns the state of a run, and why it failed."""
    if run.failure.is_file():
        diverged = (run.folder / _NOT_FINITE).is_file()
        return DIVERGED if diverged else FAILED, run.failure.read_text()
    if run.is_finished():
        return DONE, ""
    return (RUNS if seems_owned(run.claim) else WAITS), ""


def _together(states: list[tuple[str, str]], stopped: bool) -> tuple[str, str]:
    """Returns the state of a point: that of its runs which says most."""
    for wanted in (FAILED, DIVERGED):
        for state, reason in states:
            if state == wanted:
                return state, reason
    if stopped:
        return STOPPED, ""
    names = [state for state, _ in states]
    return next(name for name in (RUNS, WAITS, DONE) if name in names), ""


def _means(sweep: Sweep, histories: list[RunHistory]) -> list[float | None]:
    metrics = [goal.metric for goal in sweep.goals]
    rows = [run_scores(history, metrics).values for history in histories]
    columns = ([row[metric] for row in rows] for metric in metrics)
    return [_mean(column) for column in columns]


def _mean(values: list[Any]) -> float | None:
    return None if None in values or not values else statistics.fmean(values)


def _mean_curve(sweep: Sweep, histories: list[RunHistory]) -> list[list[float]]:
    """Returns the first goal at the steps that all seeds have reached."""
    curves = [history.series.get(sweep.goals[0].metric, {}) for history in histories]
    common = set.intersection(*map(set, curves)) if curves else set()
    return [[s, statistics.fmean(c[s] for c in curves)] for s in sorted(common)]
