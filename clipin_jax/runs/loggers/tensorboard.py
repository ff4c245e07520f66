"""Event files for TensorBoard."""

from collections.abc import Mapping
from typing import Any

from clipin_jax.runs.loggers.base import RunFacts


class TensorBoard:
    """Writes event files into the folder `tensorboard` of a run."""

    def __init__(self, flush_secs: float = 30):
        """Takes the arguments of the config.

        Args:
          flush_secs: seconds between two flushes to disk.
        """
        self._flush_secs = flush_secs
        self._events: Any = None

    def init(self, run: RunFacts, run_id: str) -> str:
        """Hides the events after the run's step; the first `log` opens a file."""
        self._folder = run.workdir / "tensorboard"
        if self._folder.exists():
            self._events = self._open(purge_step=run.step + 1)
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars, one a metric."""
        self._events = self._events or self._open()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def finish(self) -> None:
        """Flushes."""
        if self._events is not None:
            self._events.close()

    def _open(self, purge_step: int | None = None) -> Any:
        from tensorboardX import SummaryWriter  # slow to import

        return SummaryWriter(
            str(self._folder), purge_step=purge_step, flush_secs=self._flush_secs
        )
