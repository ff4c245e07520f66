"""Gives out the runs of trials in a journal, asks for new points, tells the outcomes.

Needs Optuna. Every worker does the same; none leads. A worker owns the folder
`workers/NAME`, and each trial that runs names its worker. If that one dies, another
takes the trial over, and its run goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from clipin_jax.report.run_history import read_histories
from clipin_jax.runs.owner import seems_owned
from clipin_jax.sweep.definition import Sweep
from clipin_jax.sweep.processes.run_scores import run_scores
from clipin_jax.sweep.processes.runs import DONE, FAILED, PRUNED, Ended, Run
from clipin_jax.sweep.search.journal import (
    CONTINUES,
    State,
    assignment_of,
    distributions,
    journal_lock,
    last_trials,
    open_study,
    params_of,
    sampler,
)
from clipin_jax.sweep.search.methods import WILCOXON
from clipin_jax.sweep.search.pruning import TrialWatcher, promotable

_WORKER = "worker"  # the attribute of a trial that runs


def worker_folder(home: Path, worker: str) -> Path:
    """Returns the folder that a worker owns while it works."""
    return home / "workers" / worker


@dataclasses.dataclass
class _Open:
    """A trial that this worker runs: its runs, seed by seed.

    Attributes:
      trial: in the journal.
      runs: that are not done.
      values: metric by metric, of each run that is done.
      busy: whether a process trains the next run.
    """

    trial: optuna.trial.Trial
    runs: list[Run]
    values: list[list[float]] = dataclasses.field(default_factory=list)
    busy: bool = False


class TrialRuns:
    """The runs of a search, as a `RunSource`."""

    def __init__(self, sweep: Sweep, home: Path, worker: str, *, patient: bool = True):
        """Opens the journal; writes the points of a list into it.

        Args:
          sweep: that `has_journal`.
          home: its folder.
          worker: the name of this worker, which owns its folder.
          patient: whether to wait for trials of other workers, which may die.
        """
        self._sweep, self._home, self._worker = sweep, home, worker
        self._patient = patient
        self._open: list[_Open] = []
        with journal_lock(home):
            self._study = open_study(sweep, home)
            self._enqueue_list()

    def retry_failed(self) -> None:
        """Makes trials that failed run again."""
        with journal_lock(self._home):
            for trial in last_trials(self._trials()):
                if trial.state == State.FAIL:
                    self._continue(trial)

    def next(self) -> tuple[Run, TrialWatcher | None] | None:
        """Returns a run of an open trial, of one whose worker died, or of a new one."""
        for each in list(self._open):
            if not each.busy and (run := self._advance(each)):
                return self._begin(each, run)
        while (trial := self._take()) is not None:
            assignment = assignment_of(self._sweep, trial.params)
            each = _Open(trial, self._sweep.runs(assignment, self._home))
            self._open.append(each)
            if run := self._advance(each):
                return self._begin(each, run)
        return None

    def finish(self, run: Run, ended: Ended) -> str:
        """Tells how a trial ended, if this was its last run."""
        each = next(each for each in self._open if each.runs[:1] == [run])
        each.busy = False
        if ended.state == DONE:
            self._advance(each)
        elif ended.state in (PRUNED, FAILED):
            self._tell(each, State.PRUNED if ended.state == PRUNED else State.FAIL)
            return "stopped early; " if ended.state == PRUNED else ""
        return self._describe(run)

    def left(self) -> int:
        """Returns how many trials are not begun; others' too, if this one waits."""
        trials = self._trials()
        running = sum(trial.state == State.RUNNING for trial in trials)
        others = running - len(self._open) if self._patient else 0
        queued = sum(trial.state == State.WAITING for trial in trials)
        mine = sum(not each.busy for each in self._open)
        return max(self._count_new(trials), 0) + queued + max(others, 0) + mine

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _count_new(self, trials: list[FrozenTrial]) -> int:
        """Returns how many points are to be asked for."""
        return 0 if self._sweep.is_listed else self._sweep.trials - _count(trials)

    def _enqueue_list(self) -> None:
        """Writes the points of a list, or those that a crash left out."""
        if self._sweep.is_listed:
            for point in self._sweep.assignments()[_count(self._trials()) :]:
                self._study.enqueue_trial(params_of(self._sweep, point))

    def _take(self) -> optuna.trial.Trial | None:
        """Returns a trial that is now of this worker; None if there is none."""
        with journal_lock(self._home):
            trials = self._trials()
            for old in trials:
                if old.state == State.RUNNING and self._is_orphan(old):
                    return self._mine(optuna.trial.Trial(self._study, old._trial_id))
            if (stopped := promotable(self._sweep, trials)) is not None:
                self._continue(stopped)
                trials = self._trials()
            waiting = any(trial.state == State.WAITING for trial in trials)
            if not waiting and self._count_new(trials) < 1:
                return None
            seed = self._sweep.base.seed + len(trials)
            self._study.sampler = sampler(self._sweep, seed)
            return self._mine(self._study.ask(distributions(self._sweep)))

    def _mine(self, trial: optuna.trial.Trial) -> optuna.trial.Trial:
        trial.set_user_attr(_WORKER, self._worker)
        return trial

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get(_WORKER)
        if worker == self._worker:
            return False
        return worker is None or not seems_owned(worker_folder(self._home, worker))

    def _continue(self, trial: FrozenTrial) -> None:
        self._study.enqueue_trial(trial.params, user_attrs={CONTINUES: trial.number})

    def _begin(self, each: _Open, run: Run) -> tuple[Run, TrialWatcher | None]:
        each.busy = True
        run.failure.unlink(missing_ok=True)
        rule = self._sweep.prune
        if not rule or rule == WILCOXON:
            return run, None
        return run, TrialWatcher(self._home, each.trial._trial_id)

    def _advance(self, each: _Open) -> Run | None:
        """Returns the next run of a trial; tells its values if there is none.

        None also if another process trains that run, for a point that is there twice.
        """
        while each.runs:
            run = each.runs[0]
            if not run.is_finished():
                return None if seems_owned(run.claim) else run
            values = self._values(run)
            if None in values:
                return self._tell(each, State.FAIL)
            each.runs.pop(0)
            each.values.append([value for value in values if value is not None])
            if each.runs and self._seeds_are_worse(each):
                return self._tell(each, State.PRUNED)
        return self._tell(each, State.COMPLETE)

    def _seeds_are_worse(self, each: _Open) -> bool:
        if self._sweep.prune != WILCOXON:
            return False
        number = len(each.values) - 1
        each.trial.report(each.values[-1][0], number)
        return each.trial.should_prune()

    def _tell(self, each: _Open, state: optuna.trial.TrialState) -> None:
        """Writes the end of a trial; another worker may have written it."""
        means = [sum(column) / len(column) for column in zip(*each.values, strict=True)]
        self._open.remove(each)
        self._study.tell(
            each.trial.number,
            means if state == State.COMPLETE else None,
            state=state,
            skip_if_finished=True,
        )

    def _values(self, run: Run) -> list[float | None]:
        metrics = [goal.metric for goal in self._sweep.goals]
        (history,) = read_histories([run.folder])
        return list(run_scores(history, metrics).values.values())

    def _describe(self, run: Run) -> str:
        if not run.is_finished():
            return ""
        goals = zip(self._sweep.goals, self._values(run), strict=True)
        return "".join(f"{goal.metric} {goal.text(x)}; " for goal, x in goals)


def _count(trials: list[FrozenTrial]) -> int:
    """Returns how many trials began as points of their own."""
    return sum(CONTINUES not in trial.user_attrs for trial in trials)
