"""Watches for steps whose loss or gradient is not finite; their update is skipped."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.runs.folder import process_file, write_file
from clipin_jax.types import Metrics


class NonfiniteSteps:
    """Reports skipped updates, and stops a run that has too many in a row.

    Reading the metrics of a step waits for the step. So `watch` takes them when the
    step is dispatched, and `check` reads them after the next one has started.
    """

    def __init__(self, limit: int, workdir: Path, print_line: Callable[[str], None]):
        """Starts with no step to check.

        Args:
          limit: number of skipped updates in a row that stops the run.
          workdir: the run's folder, where the batches are listed.
          print_line: prints a line.
        """
        self._limit, self._workdir, self._print_line = limit, workdir, print_line
        self._watched: tuple[int, np.ndarray, Metrics] | None = None
        self._skipped: list[np.ndarray] = []  # examples of the steps skipped in a row

    def watch(self, step: int, indices: np.ndarray, metrics: Metrics) -> None:
        """Takes a step that was just dispatched.

        Args:
          step: its number.
          indices: [B] int, the examples of its batch.
          metrics: of the train step, with "skipped_in_a_row".
        """
        self._watched = step, indices, metrics

    def check(self) -> None:
        """Waits for the watched step, if it was not checked yet.

        Raises:
          ClipinError: the limit is reached; the batches are in nonfinite_batches.json.
        """
        if self._watched is None:
            return
        step, indices, metrics = self._watched
        self._watched = None
        skipped = int(metrics["skipped_in_a_row"])
        if not skipped:
            self._skipped.clear()
            return
        self._skipped.append(indices)
        self._print_line(f"clipin: step {step}: not finite, update skipped")
        if skipped >= self._limit:
            self._stop(step, skipped)

    def _stop(self, step: int, skipped: int) -> None:
        path = self._workdir / process_file("nonfinite_batches.json")
        batches = [indices.tolist() for indices in self._skipped]
        write_file(path, json.dumps({"step": step, "batches": batches}))
        raise ClipinError(
            f"the loss or its gradient was not finite in {skipped} steps in a row, the "
            f"last of them step {step}; nothing was updated since. The examples of "
            f"these batches are in {path} (the last begins with {batches[-1][:8]}). "
            "Look at them, or start a new run with a lower optim.learning_rate or with "
            "optim.clip_norm; the newest checkpoint holds finite numbers"
        )
