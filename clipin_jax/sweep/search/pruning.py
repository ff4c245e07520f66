"""Stops runs that are worse than others at the same step; needs Optuna.

Successive halving without waiting (ASHA, Li et al., 2020, arXiv 1810.05934): at steps
e, 3e, 9e, ... a run goes on if it is in the best third of those that came as far. One
that stopped goes on from its checkpoint when others have made it one of the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.sweep.definition import Sweep, read_sweep
from clipin_jax.sweep.goals import Goal, evaluation_steps
from clipin_jax.sweep.search.journal import State, last_trials, open_study
from clipin_jax.sweep.search.methods import ASHA

_FACTOR = 3  # between two rungs, and of the runs at a rung that go on: one of 3


@dataclass(frozen=True)
class TrialWatcher:
    """Reports a run to its trial, and asks the rule of the sweep: a `Watcher`.

    Attributes:
      home: the folder of the sweep.
      trial_id: of the trial, in the journal.
    """

    home: Path
    trial_id: int

    def open(self, folder: Path) -> Callable[[int, Mapping[str, float]], bool]:
        """Returns what is called after each evaluation of the run in `folder`."""
        sweep = read_sweep(self.home)
        study = open_study(sweep, self.home)
        trial = optuna.trial.Trial(study, self.trial_id)
        (goal,) = sweep.goals
        reported: set[int] = set()

        def should_stop(step: int, scores: Mapping[str, float]) -> bool:
            """Reports what the run has measured; it may have gone on from before."""
            for row in read_metrics(folder):
                value = row.get(goal.metric)
                if value is not None and row["step"] not in reported:
                    reported.add(row["step"])
                    trial.report(value, row["step"])
            if not reported or max(reported) >= sweep.base.total_steps:
                return False
            if sweep.prune == ASHA:
                trials = study.get_trials(deepcopy=False)
                return not _goes_on(sweep, trials, trials[trial.number], max(reported))
            return trial.should_prune()

        return should_stop


def rungs(sweep: Sweep) -> list[int]:
    """Returns the steps at which successive halving stops runs."""
    step, steps = evaluation_steps(sweep.goals[0], sweep.base), []
    while step < sweep.base.total_steps:
        steps.append(step)
        step *= _FACTOR
    return steps


def promotable(sweep: Sweep, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Returns a trial that stopped and is now in the best third of its rung, if any."""
    if sweep.prune != ASHA:
        return None
    for trial in last_trials(trials):
        step = trial.last_step if trial.state == State.PRUNED else None
        if step is not None and _goes_on(sweep, trials, trial, step):
            return trial
    return None


def _goes_on(
    sweep: Sweep, trials: Sequence[FrozenTrial], trial: FrozenTrial, step: int
) -> bool:
    if step not in rungs(sweep):
        return True
    (goal,) = sweep.goals
    losses = _losses(goal, trials, step)
    mine = losses[_key(trial)]
    better = sum(loss < mine for loss in losses.values())
    return better < max(1, len(losses) // _FACTOR)


def _losses(goal: Goal, trials: Sequence[FrozenTrial], step: int) -> dict[Any, float]:
    """Returns the loss of each point at a step, of trials that came as far."""
    return {
        _key(trial): goal.loss(trial.intermediate_values[step])
        for trial in trials
        if step in trial.intermediate_values
    }


def _key(trial: FrozenTrial) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(trial.params.items()))
