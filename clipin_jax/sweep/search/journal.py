"""The trials of a search in a journal file, which workers of several machines share.

This module and those that import it need Optuna: import them where it is used.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from clipin_jax.sweep.definition import Sweep
from clipin_jax.sweep.goals import evaluation_steps
from clipin_jax.sweep.space.axes import Axis, Choices
from clipin_jax.sweep.space.designs import Assignment

FILE, LOCK = "journal.log", ".journal.lock"
CONTINUES = "continues"  # the attribute of a trial that goes on with another one
_NAME = "sweep"
_PATIENCE = 300  # seconds for the lock; whoever holds it only asks for a point
State = optuna.trial.TrialState
_DIRECTIONS = {
    "max": optuna.study.StudyDirection.MAXIMIZE,
    "min": optuna.study.StudyDirection.MINIMIZE,
}


def journal_lock(home: Path) -> FileLock:
    """Returns the lock of who takes or makes a trial; it ends with its process."""
    return FileLock(home / LOCK, timeout=_PATIENCE)


def open_study(sweep: Sweep, home: Path) -> optuna.Study:
    """Returns the study in the journal of a folder, with the rule that stops runs."""
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    backend = JournalFileBackend(str(home / FILE))
    return optuna.create_study(
        study_name=_NAME,
        storage=optuna.storages.JournalStorage(backend),
        directions=[_DIRECTIONS[goal.mode] for goal in sweep.goals],
        pruner=_pruner(sweep),
        load_if_exists=True,
    )


def sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    """Returns what proposes the next point; seed: other ones for other points."""
    if sweep.method == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True
        )
    if sweep.method == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if sweep.method == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # of a list; it is not asked


def distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """Returns the space as Optuna describes it."""
    return {key: _distribution(axis) for key, axis in sweep.space.axes.items()}


def params_of(sweep: Sweep, assignment: Assignment) -> dict[str, Any]:
    """Returns the parameters of a trial at a point."""
    return {
        key: text
        if isinstance(axis := sweep.space.axes[key], Choices)
        else (int if axis.integer else float)(text)
        for key, text in assignment.items()
    }


def assignment_of(sweep: Sweep, params: dict[str, Any]) -> Assignment:
    """Returns the point of a trial's parameters."""
    return {
        key: params[key] if isinstance(axis, Choices) else axis.text(params[key])
        for key, axis in sweep.space.axes.items()
    }


def last_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the trials without those that another one goes on with, by begin."""
    last: dict[int, FrozenTrial] = {}
    first_of: dict[int, int] = {}
    for trial in trials:
        before = trial.user_attrs.get(CONTINUES)
        first = trial.number if before is None else first_of[before]
        first_of[trial.number] = first
        last[first] = trial
    return list(last.values())


def trial_points(sweep: Sweep, home: Path) -> list[tuple[Assignment, bool]]:
    """Returns the points of a journal, each once, and whether its run was stopped."""
    if not (home / FILE).is_file():
        return []
    trials = open_study(sweep, home).get_trials(deepcopy=False)
    points: dict[tuple[tuple[str, str], ...], bool] = {}
    for trial in last_trials(trials):
        params = trial.params or trial.system_attrs.get("fixed_params", {})
        if len(params) == len(sweep.space.axes):
            point = assignment_of(sweep, params)
            points[tuple(point.items())] = trial.state == State.PRUNED
    return [(dict(point), pruned) for point, pruned in points.items()]


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if axis.integer:
        return IntDistribution(round(axis.low), round(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """Returns Optuna's rule; successive halving is ours, see `pruning`."""
    if sweep.prune == "median":
        return optuna.pruners.MedianPruner()
    if sweep.prune == "wilcoxon":
        return optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    if sweep.prune == "hyperband":
        every = evaluation_steps(sweep.goals[0], sweep.base)
        return optuna.pruners.HyperbandPruner(
            min_resource=every, max_resource=sweep.base.total_steps, reduction_factor=3
        )
    return optuna.pruners.NopPruner()
