"""The runs of a list, for processes of several machines: each run is trained once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from clipin_jax.errors import ClipinError
from clipin_jax.runs.owner import seems_owned
from clipin_jax.sweep.processes.runs import TAKEN, Ended, Run


def missing_runs(runs: Iterable[Run]) -> list[Run]:
    """Returns the runs that are not done.

    Raises:
      ClipinError: a finished run is of another config.
    """
    return [run for run in runs if not run.is_finished()]


def forget_failures(runs: Iterable[Run]) -> None:
    """Removes the files of runs that failed, so that they are tried again."""
    for run in runs:
        run.failure.unlink(missing_ok=True)


class ListedRuns:
    """Gives out the runs of a list, those that other processes train last.

    A process owns the folder `claims/RUN` while it trains a run. If it dies, others may
    own it, and its run goes on from its checkpoint.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        *,
        patient: bool = True,
        describe: Callable[[Run], str] = lambda run: "",
    ):
        """Takes a list.

        Args:
          runs: that are not done.
          patient: whether to wait for runs of other processes, which may die.
          describe: what to print of a run that is done.
        """
        self._waiting = list(runs)
        self._patient, self._describe = patient, describe

    def next(self) -> tuple[Run, None] | None:
        """Returns a run that is neither done, failed nor trained by another process."""
        for run in list(self._waiting):
            if seems_owned(run.claim) or seems_owned(run.folder):
                continue
            self._waiting.remove(run)
            if not run.failure.is_file() and not _is_finished(run):
                return run, None
        if not self._patient:
            self._waiting.clear()
        return None

    def finish(self, run: Run, ended: Ended) -> str:
        """Takes a run back that another process has begun to train meanwhile."""
        if ended.state == TAKEN:
            self._waiting.append(run)
        return self._describe(run)

    def left(self) -> int:
        """Returns how many runs are not begun by this process."""
        return len(self._waiting)


def _is_finished(run: Run) -> bool:
    try:
        return run.is_finished()
    except ClipinError:  # training it says why
        return False
