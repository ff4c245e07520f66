"""At which point all processes stop, when one of them is asked to.

A point lies before a step, or before an evaluator. All processes pass the same points.

The processes agree over the store, beside the steps: no step waits for it, and it does
not matter how rarely a run logs. The scheme is that of jax's preemption service.
"""

import threading
import time
from collections.abc import Callable

from clipin_jax.processes.group import Group

_POLL_SECONDS = 0.05
_BEAT_SECONDS = 0.5  # that a beat may take; the next one goes on


class CommonStop:
    """The point at which all processes of a run stop."""

    def __init__(self, group: Group, wants_stop: Callable[[], bool]):
        """Nobody has asked yet.

        Args:
          group: of this process; every process makes its `CommonStop` in turn.
          wants_stop: whether this process is asked to stop.
        """
        self._group, self._wants_stop = group, wants_stop
        self._asked, self._points = group.folder("stop"), group.folder("stop_points")
        self._changed = threading.Condition()
        self._is_agreeing = False
        self._passed = 0  # points
        self._stop_at: int | None = None

    def reached(self) -> bool:
        """Whether to stop at this point; every process asks at each of them.

        Waits while the processes agree, so that none of them passes the common point.
        """
        with self._changed:
            while self._is_agreeing:
                self._changed.wait()
            self._passed += 1
            return self._stop_at is not None and self._passed >= self._stop_at

    def beat(self) -> None:
        """Asks the others to stop, or agrees with them; called each second."""
        if self._stop_at is not None:
            return
        store, name = self._group.store, str(self._group.index)
        if not self._is_agreeing:
            if self._wants_stop():
                store.put(self._asked, name, "")
            if not store.all(self._asked):
                return
            with self._changed:
                self._is_agreeing = True
            store.put(self._points, name, str(self._passed))
        self._agree()

    def _agree(self) -> None:
        end = time.monotonic() + _BEAT_SECONDS
        while len(texts := self._group.store.all(self._points)) < self._group.count:
            if time.monotonic() > end:
                return
            time.sleep(_POLL_SECONDS)
        with self._changed:
            # Each process may have gone on after the point that it gave.
            self._stop_at = max(map(int, texts.values())) + 1
            self._is_agreeing = False
            self._changed.notify_all()
