"""How processes end together when one of them fails, with one line of output.

Process 0 prints the line, and ends last, since it holds the store. Another process
prints it itself only if process 0 does not answer.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from clipin_jax.errors import FAILED
from clipin_jax.processes.group import Group

_COLLECT_SECONDS = 1.0  # in which other processes report the same failure
_ANSWER_SECONDS = 8.0  # for process 0 to say that it printed the line
_LINES = 3  # that process 0 prints at most
_POLL_SECONDS = 0.1


class Ending(NamedTuple):
    """Why a process ends.

    Attributes:
      code: its exit code.
      message: the line for the user; "" for none.
      is_own: whether the message is about the process that ends.
    """

    code: int
    message: str
    is_own: bool = True


class Endings:
    """Ends this process with the others, once."""

    def __init__(self, group: Group, exit_now: Callable[[int], NoReturn] = os._exit):
        """Takes the group; `exit_now` ends the process without waiting for anything."""
        self._group, self._exit = group, exit_now
        self._once = threading.Lock()

    def reported(self) -> dict[int, Ending]:
        """Returns the endings that processes have reported."""
        texts = self._group.store.all("ends")
        return {int(i): Ending(*json.loads(text)) for i, text in texts.items()}

    def report(self, ending: Ending) -> None:
        """Tells the others why this process ends."""
        text = json.dumps(ending)
        self._group.store.put("ends", str(self._group.index), text)

    def end(self, ending: Ending | None = None) -> NoReturn:
        """Ends this process, with the others.

        Args:
          ending: of this process; None to end because another one does.
        """
        if not self._once.acquire(blocking=False):
            threading.Event().wait()  # another thread ends the process
        code, lines = FAILED, list[str]()
        try:
            if ending is not None:
                code, lines = ending.code, [ending.message]
                self.report(ending)
            code, lines = self._together(ending)
        except RuntimeError:  # of the store: process 0 has gone
            pass
        flush()
        for line in lines:
            print_error(line)
        with contextlib.suppress(RuntimeError):
            self._last_one_out()
        self._exit(code)

    def _together(self, ending: Ending | None) -> tuple[int, list[str]]:
        """Returns the exit code, and the lines that this process prints."""
        if self._group.index == 0:
            self._wait(lambda: len(self.reported()) == self._group.count,
                       _COLLECT_SECONDS)  # fmt: skip
            ends = self.reported()
            first = ending or next(iter(ends.values()))
            return first.code, self._lines(ends)
        told = self._wait(lambda: bool(self._group.store.all("told")), _ANSWER_SECONDS)
        ends = self.reported()
        first = ending or next(iter(ends.values()))
        return first.code, [] if told else self._lines(ends)

    def _lines(self, ends: dict[int, Ending]) -> list[str]:
        """Returns a line for each message, with the processes that report it."""
        owners: dict[str, list[int]] = {}
        for index, ending in sorted(ends.items()):
            if not ending.is_own:
                return [ending.message]  # the cause of what the others report
            owners.setdefault(ending.message, []).append(index)
        lines = [
            message
            if len(indices) == self._group.count or not message
            else f"{self._group.names(indices)}: {message}"
            for message, indices in owners.items()
            if message
        ]
        more = f"{len(lines) - _LINES} more processes failed in other ways"
        return lines[:_LINES] + ([more] if len(lines) > _LINES else [])

    def _last_one_out(self) -> None:
        """Says that this process has printed and leaves; process 0 waits for all."""
        store, index = self._group.store, self._group.index
        if index:
            store.put("left", str(index), "")
            return
        store.put("told", "0", "")
        others = self._group.count - 1
        self._wait(lambda: len(store.all("left")) == others, _ANSWER_SECONDS)

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not (done := is_done()) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return done


def print_error(message: str) -> None:
    """Prints an error past the streams of Python, which may be in use."""
    line = f"clipin: error: {message}\n"
    if os.isatty(2):
        line = f"\n{line}"  # a progress bar has not ended its line
    with contextlib.suppress(OSError):
        os.write(2, line.encode())


def flush() -> None:
    """Writes what is left in the streams of Python."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
