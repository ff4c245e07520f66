"""Checks of a sweep as a whole, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from clipin_jax.config.key_links import fields
from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.sweep.definition import FIXED, OPEN, SCHEDULES, Sweep
from clipin_jax.sweep.goals import evaluation_steps
from clipin_jax.sweep.search.methods import RULES, WILCOXON, check_installed
from clipin_jax.sweep.space.axes import Choices
from clipin_jax.sweep.space.designs import LISTED

_FEWEST = 5  # seeds; with fewer, the Wilcoxon test can show nothing


def check_sweep(sweep: Sweep) -> None:
    """Checks that the parts of a sweep fit each other.

    Raises:
      ClipinError: they do not.
    """
    check_choice("--schedule", sweep.schedule, SCHEDULES)
    if sweep.seeds < 1:
        raise ClipinError(f"--seeds is {sweep.seeds}: it must be at least 1")
    if "seed" in sweep.space.axes and sweep.seeds > 1:
        raise ClipinError("seed=... and --seeds both set seeds: give one of them")
    _check_trials(sweep)
    _check_goals(sweep)
    if sweep.schedule == OPEN:
        _check_open(sweep)
    if sweep.prune:
        check_choice("--prune", sweep.prune, RULES)
        _check_pruning(sweep)
    if sweep.has_journal:
        check_installed(sweep.prune if sweep.is_listed else sweep.method)


def _check_trials(sweep: Sweep) -> None:
    if sweep.method in LISTED:
        if sweep.trials:
            raise ClipinError(
                f"--trials is {sweep.trials}, but {sweep.method} has its own number of "
                "points: leave it out, or give --method random, quasi, tpe, gp or nsga2"
            )
        sweep.assignments()
        return
    if not sweep.space.axes:
        raise ClipinError(
            "nothing is varied: give a key several values, as KEY=a,b,c, or a range, "
            "as KEY=1e-4..1e-2:log"
        )
    if sweep.trials < 1:
        raise ClipinError(f"{sweep.method} needs a number of points: --trials N")


def _check_goals(sweep: Sweep) -> None:
    if len(sweep.goals) > 1 and not sweep.is_listed and sweep.method != "nsga2":
        raise ClipinError(
            f"{sweep.method} makes one metric best: give one, or --method nsga2"
        )
    if len(sweep.goals) < 2 and sweep.method == "nsga2":
        raise ClipinError(
            "nsga2 weighs metrics against each other: give --metric twice"
        )


def _check_pruning(sweep: Sweep) -> None:
    (goal, *more), rule = sweep.goals, sweep.prune
    if more:
        raise ClipinError(f"--prune {rule} compares one metric: give one --metric")
    if rule == WILCOXON:
        if sweep.seeds < _FEWEST:
            raise ClipinError(
                f"--prune {rule} tests seeds against seeds: give --seeds {_FEWEST} or "
                "more, with fewer it can show nothing"
            )
        return
    if sweep.seeds > 1:
        raise ClipinError(f"--prune {rule} stops single runs: leave out --seeds")
    every = evaluation_steps(goal, sweep.base)
    name = goal.metric.partition("/")[0]
    if not 0 < every < sweep.base.total_steps:
        raise ClipinError(
            f"--prune {rule} needs {goal.metric} during the runs: set "
            f"evals.{name}.every_steps below total_steps ({sweep.base.total_steps})"
        )
    varied = [k for k in sweep.space.axes if k.endswith("total_steps")]
    if varied and sweep.schedule == FIXED:
        raise ClipinError(
            f"--prune {rule} compares runs at one step, but {varied[0]} gives their "
            "schedules other lengths: leave it out, or use schedules that do not look "
            "at the end with --schedule open"
        )


def _check_open(sweep: Sweep) -> None:
    """Checks that no schedule looks at the end of a run, whatever the point."""
    configs = [sweep.base]
    for key, axis in sweep.space.axes.items():
        if isinstance(axis, Choices):
            configs += [sweep.config({key: value}) for value in axis.values]
    for config in configs:
        for key in _schedule_ends(config):
            raise ClipinError(
                f"--schedule open, but {key} looks at the end of the run: a longer run "
                "would have another schedule; use constant ones, or --schedule fixed"
            )


def _schedule_ends(config: ConfigDict) -> Iterator[str]:
    for key, group, name, _ in fields(config):
        if name == "total_steps" and "schedule" in group:
            yield key
