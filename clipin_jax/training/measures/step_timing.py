"""Measures the steps of a run: their speed, and what devices and host wait for."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol


class Result(Protocol):
    """An array that a device computes."""

    def block_until_ready(self) -> object:
        """Returns when it is computed."""


class Window(NamedTuple):
    """What was measured between two readings, in seconds unless noted.

    Attributes:
      steps: their number.
      seconds: of the whole window.
      waited: the host waited for data.
      idle: the devices of this process had no step queued: the last one was done, and
        the next one had not been started.
      starved: the part of `idle` in which the host waited for data.
    """

    steps: int
    seconds: float
    waited: float
    idle: float
    starved: float

    def figures(self, batch_size: int) -> dict[str, float]:
        """Returns the metrics: images per second, and shares of the time in [0, 1].

        batch_size: images in a step, over all devices.
        """
        return {
            "images_per_second": self.steps * batch_size / self.seconds,
            "data_wait_fraction": min(self.waited / self.seconds, 1.0),
            "device_idle_fraction": min(self.idle / self.seconds, 1.0),
        }


class StepTimer:
    """Measures steps of which the host starts each one before the last one is done.

    When a step is done is what a thread says that waits for its result. The idle time
    of a pair of steps is none if the last one is not done when the next one starts; it
    is too low by the time in which that thread wakes up, some microseconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        executor: Executor | None = None,
    ):
        """Starts to measure.

        Args:
          clock: returns seconds.
          executor: of the thread that waits; one of its own if None.
        """
        self._clock = clock
        self._executor = executor or ThreadPoolExecutor(1, "clipin_step_done")
        self._done: Future[float] | None = None
        self._data = (0.0, 0.0)  # when the host last waited for data
        self._since = clock()
        self._clear()

    def _clear(self) -> None:
        self._steps, self._waited, self._idle, self._starved = 0, 0.0, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts one step; the time inside counts as waiting for data."""
        start = self._clock()
        yield
        end = self._clock()
        self._data = start, end
        self._steps += 1
        self._waited += end - start

    def starts(self) -> None:
        """Notes that the host starts a step now."""
        self._count_idle(self._clock())
        self._done = None

    def _count_idle(self, now: float) -> None:
        """Counts the time since the last step was done, if it is."""
        done = self._done
        if done is None or not done.done() or done.exception() is not None:
            return
        since, (start, end) = max(done.result(), self._since), self._data
        self._idle += max(now - since, 0.0)
        self._starved += max(end - max(start, since), 0.0)

    def watch(self, result: Result) -> None:
        """Waits for a result of the step that was started last, in a thread."""
        self._done = self._executor.submit(self._time_when_ready, result)

    def _time_when_ready(self, result: Result) -> float:
        result.block_until_ready()
        return self._clock()

    def is_done(self) -> bool:
        """Returns whether the step that was started last is done, or has failed."""
        return self._done is None or self._done.done()

    def read(self) -> Window:
        """Returns what was measured since the last call, and starts again."""
        now = self._clock()
        self._count_idle(now)
        seconds = max(now - self._since, 1e-9)
        window = Window(self._steps, seconds, self._waited, self._idle, self._starved)
        self._since = now
        self._clear()
        return window

    def close(self) -> None:
        """Lets the thread end when its step is done."""
        self._executor.shutdown(wait=False)
