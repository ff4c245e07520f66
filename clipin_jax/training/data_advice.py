"""Says when the data are what bounds the speed of a run, and what helps."""

import math
import time
from collections.abc import Callable

from ml_collections import ConfigDict

from clipin_jax.training.measures.step_timing import Window

MOST_STARVED = 0.1  # share of the time above which to say it
STEPS = 20  # at least, to judge by
AGAIN_SECONDS = 3600.0  # until it is said again


class DataAdvice:
    """Judges the windows of a run, and returns a sentence at most once an hour."""

    def __init__(
        self,
        data: ConfigDict,
        run_name: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts without a judgement.

        Args:
          data: `config.data`, whose keys the sentence names.
          run_name: the path or URL of the run's folder.
          clock: returns seconds.
        """
        self._data, self._run_name, self._clock = data, run_name, clock
        self._next = -math.inf
        self._clear()

    def _clear(self) -> None:
        self._steps, self._seconds, self._starved = 0, 0.0, 0.0

    def judge(self, window: Window) -> str:
        """Returns a sentence if the devices waited for data too long, else "".

        window: the newest one; small ones are joined.
        """
        self._steps += window.steps
        self._seconds += window.seconds
        self._starved += window.starved
        if self._steps < STEPS:
            return ""
        share, steps = self._starved / self._seconds, self._steps
        self._clear()
        if share <= MOST_STARVED or self._clock() < self._next:
            return ""
        self._next = self._clock() + AGAIN_SECONDS
        return (
            f"the devices waited for data {share:.0%} of the last {steps} steps: raise "
            f"data.processes (now {self._data.processes}), data.threads (now "
            f"{self._data.threads}) or data.prefetch_batches (now "
            f"{self._data.prefetch_batches}){self._on_device()}; `clipin data bench "
            f"{self._run_name}` times each part"
        )

    def _on_device(self) -> str:
        if self._data.augment_on == "device":
            return ""
        return ", or in a new run set data.augment_on=device"
