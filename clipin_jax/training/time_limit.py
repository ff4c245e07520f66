"""Stops a run before a limit of wall time, early enough to save it."""

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from clipin_jax.errors import ClipinError
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.goodput import Goodput
from clipin_jax.runs.interrupt import Interrupt

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_POLL_SECONDS = 0.5
_LEAST_RESERVE = 5.0  # seconds, to end the process
_BYTES_PER_SECOND = 100e6  # of a save, before one was measured


def parse_seconds(text: str) -> float:
    """Returns a time such as "3h50m", "90m", "1d" or "600" in seconds.

    Raises:
      ClipinError: it is none, or not positive.
    """
    seconds = 0.0
    if text.replace(".", "", 1).isdecimal():
        seconds = float(text)
    elif match := _TIME.fullmatch(text):
        parts = zip(match.groups(), _UNITS.values(), strict=True)
        seconds = float(sum(int(number or 0) * unit for number, unit in parts))
    if seconds <= 0:
        raise ClipinError(
            f"--max-time is {text!r}: give seconds, or a time such as 3h50m"
        )
    return seconds


def needed_seconds(goodput: Goodput, checkpoints: Checkpoints, state: Any) -> float:
    """Returns how long before the limit a run must begin to stop.

    Half as much again as its longest step and its longest save took.

    Args:
      goodput: knows the longest step so far.
      checkpoints: know the longest save so far; before the first one it is estimated.
      state: the train state, or its shapes.
    """
    save = checkpoints.longest_save or _estimated_save(state)
    return 1.5 * (goodput.longest_step + save) + _LEAST_RESERVE


def check_time(
    end: float, reserve: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Checks that a run that took no step has not been stopped by its limit of time.

    Started again, it would never get further.

    Args:
      end: as in `stop_before`.
      reserve: seconds that are needed to stop.
      clock: returns seconds.

    Raises:
      ClipinError: the start took all of the time.
    """
    if clock() + reserve >= end:
        raise ClipinError(
            "--max-time left no time for a step: the start and what a save needs "
            f"({reserve:.0f} s are kept for it) took all of it; give more time"
        )


def _estimated_save(state: Any) -> float:
    num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return num_bytes / _BYTES_PER_SECOND


@contextlib.contextmanager
def stop_before(
    end: float,
    interrupt: Interrupt,
    reserve: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Sets an interrupt as SIGTERM does, `reserve()` seconds before the limit.

    Args:
      end: when the run must have ended, by `clock`; infinite for no limit.
      interrupt: of the run.
      reserve: returns the seconds that are needed to stop.
      clock: returns seconds.
    """
    stopped = threading.Event()

    def watch() -> None:
        while clock() + reserve() < end:
            if stopped.wait(_POLL_SECONDS):
                return
        interrupt.ask()

    if end == math.inf:
        yield
        return
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
