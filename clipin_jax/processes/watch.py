"""Watches the other processes: one that fails, dies or hangs ends the run.

A thread of each process writes a number into the store each second. Process 0 reads
those of all, the others that of process 0.
"""

import os
import threading
import time
from collections.abc import Callable

from clipin_jax.errors import FAILED
from clipin_jax.processes.endings import Ending, Endings, flush, print_error
from clipin_jax.processes.group import Group

BEAT_SECONDS = 1.0  # between two beats of a process
SILENT_SECONDS = 60.0  # without a beat, after which a process has gone
BEHIND_SECONDS = 600.0  # for a step, after which a process that others wait for hangs
_DOUBT_SECONDS = 10.0  # as SILENT_SECONDS, when a collective has failed


class Watch:
    """The thread that watches the other processes; and what it does at each beat."""

    def __init__(self, group: Group, endings: Endings):
        """Starts nothing yet.

        Args:
          group: of this process.
          endings: what ends it.
        """
        self._group, self._endings = group, endings
        self._tasks: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._answered = time.monotonic()  # when the store last answered
        self._beats: dict[str, tuple[str, float]] = {}  # text and when it came
        self._steps: dict[str, tuple[int, float]] = {}  # step and when it was reached
        self.step = 0  # that this process is at
        self.in_doubt = False  # whether a collective has failed in this process
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._run, self._guard)
        ]

    def start(self) -> None:
        """Starts to watch."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops to watch, as all processes end as they should."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def add(self, task: Callable[[], None]) -> None:
        """Calls a function at each beat."""
        self._tasks.append(task)

    def remove(self, task: Callable[[], None]) -> None:
        """Calls it no more."""
        self._tasks.remove(task)

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.wait(BEAT_SECONDS):
                number += 1
                self._beat(number)
        except RuntimeError:  # of the store, if jax closes it or process 0 has gone
            if self._stop.wait(_DOUBT_SECONDS):
                return
            self._end_alone()

    def _beat(self, number: int) -> None:
        group = self._group
        text = f"{number} {self.step} {int(self.in_doubt)}"
        group.store.put("beats", str(group.index), text)
        self._answered = time.monotonic()
        if self._endings.reported():
            self._endings.end()
        for task in list(self._tasks):
            task()
        if group.index == 0 and (problem := self.find_problem(time.monotonic())):
            self._endings.end(Ending(FAILED, problem, is_own=False))

    def find_problem(self, now: float) -> str:
        """Returns what is wrong with a process, by the beats of all; "" for nothing."""
        beats = self._group.store.all("beats")
        for index, text in beats.items():
            if self._beats.get(index, ("", 0.0))[0] != text:
                self._beats[index] = text, now
            step = int(text.split()[1])
            if self._steps.get(index, (-1, 0.0))[0] != step:
                self._steps[index] = step, now
        doubt = any(text.split()[2] == "1" for text in beats.values())
        return self._silent(now, doubt) or self._behind(now)

    def _silent(self, now: float, doubt: bool) -> str:
        limit = _DOUBT_SECONDS if doubt else SILENT_SECONDS
        silent = [int(i) for i, (_, at) in self._beats.items() if now - at > limit]
        if not silent:
            return ""
        return (
            f"{self._group.names(sorted(silent))} has not answered for {limit:g} s: it "
            "was ended from outside, as for lack of memory, or its host is gone or "
            "stuck; the same command goes on from the newest checkpoint"
        )

    def _behind(self, now: float, limit: float = BEHIND_SECONDS) -> str:
        """Tells which process others wait for: they have taken a step that it lacks."""
        newest = max((step for step, _ in self._steps.values()), default=0)
        late = [int(i) for i, (step, _) in self._steps.items() if step < newest]
        waited = now - max((at for _, at in self._steps.values()), default=now)
        if not late or waited < limit:
            return ""
        step = min(self._steps[str(i)][0] for i in late)
        return (
            f"{self._group.names(sorted(late))} has been at step {step} for "
            f"{waited:.0f} s, in which others wait for it at step {newest}: look at "
            "its host, as its disk may not answer"
        )

    def late(self) -> str:
        """Returns which process others wait for at this moment, "" if none."""
        return self._behind(time.monotonic(), limit=0.0)

    def _guard(self) -> None:
        """Ends this process if the store does not answer, in which `_run` may hang."""
        while not self._stop.wait(BEAT_SECONDS):
            if time.monotonic() - self._answered > SILENT_SECONDS + 2 * BEAT_SECONDS:
                self._end_alone()

    def _end_alone(self) -> None:
        flush()
        name = self._group.name(0)
        message = (
            f"{name} has not answered for {SILENT_SECONDS:g} s: it was ended from "
            "outside, or its host is gone or stuck"
        )
        print_error(message)
        os._exit(FAILED)
