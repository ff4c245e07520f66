"""What a sweep will do, before it runs: its points, compiled programs, and time."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from clipin_jax.config import apply_changes, from_json, to_json
from clipin_jax.data.cpus import available_cpus
from clipin_jax.errors import ClipinError
from clipin_jax.report.text_format import count_noun, format_duration
from clipin_jax.runs.build import program_key
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.sweep import outcomes
from clipin_jax.sweep.definition import Sweep, shorten_key
from clipin_jax.sweep.outcomes import Point, collect_points
from clipin_jax.sweep.processes.pool import MEMORY, ProcessPool
from clipin_jax.sweep.processes.tasks import output_to
from clipin_jax.sweep.space import designs
from clipin_jax.sweep.space.designs import Assignment

_STEPS = 12  # of a short trial
_SAMPLE = 16  # points of a search whose programs are counted
_NEVER = 1_000_000_000  # steps between two checkpoints


class TrialTimes(NamedTuple):
    """Seconds of a short run.

    start: until the end of the first step, with compilation; step: one step;
    evaluation: all evaluators once.
    """

    start: float
    step: float
    evaluation: float


def preview_text(sweep: Sweep, home: Path, jobs: int) -> str:
    """Returns the table of points, and a line with the number of programs and the time.

    Raises:
      ClipinError: a config is wrong, or the short trial failed.
    """
    if sweep.is_listed:
        points = collect_points(sweep, home)
        assignments = [point.assignment for point in points] or sweep.assignments()
    else:
        points = collect_points(sweep, home)
        assignments = designs.random(sweep.space, _SAMPLE, sweep.base.seed)
    programs = count_programs(sweep, assignments)
    total = len(assignments) if sweep.is_listed else sweep.trials
    done = sum(point.state == outcomes.DONE for point in points)
    sample = "" if sweep.is_listed else f" among {len(assignments)} random points"
    seconds, source = _estimate(sweep, points, (total - done) * sweep.seeds, programs)
    lines = [
        *_table(sweep, points, assignments if sweep.is_listed else []),
        f"clipin: sweep {sweep.name}: {done} of {total} points are done; "
        f"{count_noun(programs, 'training program')}{sample}; about "
        f"{format_duration(seconds / jobs)} with --jobs {jobs} ({source})",
    ]
    return "\n".join(lines)


def count_programs(sweep: Sweep, assignments: Sequence[Assignment]) -> int:
    """Returns how many training programs the points compile, in one process.

    Raises:
      ClipinError: a config is wrong.
    """
    return len({program_key(sweep.config(point)) for point in assignments})


def time_trial(config: str, log: Path) -> TrialTimes:
    """Trains a few steps in a temporary folder: a task of a process.

    Args:
      config: JSON, as written by `to_json`.
      log: the file for what is printed.

    Raises:
      ClipinError: the run failed.
    """
    from clipin_jax.training.loop import train

    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        with output_to(log):
            train(_short(from_json(config)).lock(), workdir)
        rows = read_metrics(workdir)
    steps = [row["time"] for row in rows if "train/loss" in row]
    step = (steps[-1] - steps[0]) / max(len(steps) - 1, 1)
    return TrialTimes(steps[0], step, rows[-1]["time"] - steps[-1])


def _short(config: ConfigDict) -> ConfigDict:
    changes = {
        "total_steps": min(_STEPS, config.total_steps),
        "log_every_steps": 1,
        "health_every_steps": 0,
        "checkpoint.every_steps": _NEVER,
    }
    for name in config.evals:
        changes[f"evals.{name}.every_steps"] = 0
    return apply_changes(config, changes)


def _estimate(
    sweep: Sweep, points: Sequence[Point], runs: int, programs: int
) -> tuple[float, str]:
    """Returns the seconds that some runs take one after the other, and why."""
    finished = [p.seconds / sweep.seeds for p in points if p.state == outcomes.DONE]
    if finished or not runs:
        each = statistics.median(finished) if finished else 0.0
        return each * runs, f"from {count_noun(len(finished), 'finished point')}"
    config = sweep.base
    if sweep.is_listed:
        config = sweep.config(sweep.assignments()[0])
    times = _run_trial(config)
    evaluations = 1 + max(
        (config.total_steps - 1) // every
        for entry in config.evals.values()
        if (every := entry.get("every_steps", 0) or config.total_steps)
    )
    training = config.total_steps * times.step + evaluations * times.evaluation
    return programs * times.start + runs * training, f"from {_STEPS} steps of a trial"


def _run_trial(config: ConfigDict) -> TrialTimes:
    with ProcessPool() as processes, tempfile.TemporaryDirectory() as folder:
        process = processes.open(available_cpus())
        process.send(time_trial, to_json(config), Path(folder) / "log.txt")
        try:
            times, error = process.receive()
        except EOFError:
            times, error = None, MEMORY
    if times is None:
        raise ClipinError(f"the first point cannot be trained: {error}")
    return times


def _table(
    sweep: Sweep, points: Sequence[Point], assignments: Sequence[Assignment]
) -> list[str]:
    """Returns lines with a point each."""
    keys = list(sweep.space.axes)
    states = {tuple(point.assignment.items()): point.state for point in points}
    shown = [point.assignment for point in points] or assignments
    rows = [["", *map(shorten_key, keys), "state"]]
    for number, point in enumerate(shown, start=1):
        state = states.get(tuple(point.items()), outcomes.WAITS)
        rows.append([str(number), *(point[key] for key in keys), state])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
