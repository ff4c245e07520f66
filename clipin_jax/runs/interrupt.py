"""Catches signals, so that a long command saves before it stops."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from clipin_jax.errors import RetryableError

_STDERR = 2  # file descriptor


class Interrupted(BaseException):
    """Ends work that may be left out, see `Interrupt.raising`."""


class Interrupt:
    """Tells whether SIGTERM or Ctrl-C has asked to stop.

    Attributes:
      signal: number of the first signal, 0 before one came.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._event = threading.Event()
        self._raises = self._catches = False

    def is_set(self) -> bool:
        """Returns whether a signal came."""
        return self._event.is_set()

    def set(self, number: int) -> None:
        """Notes a signal; raises Interrupted inside `raising`, once."""
        self.signal = self.signal or number
        self._event.set()
        if self._raises:
            self._raises = False  # a second signal must not disturb the handling
            raise Interrupted

    def ask(self) -> None:
        """Stops as SIGTERM does; any thread may call it."""
        if self._catches:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.set(signal.SIGTERM)

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """While inside, this process catches the signals of this object."""
        self._catches = True
        try:
            yield
        finally:
            self._catches = False

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Lets a signal end the work inside at once, by Interrupted.

        For work that changes nothing until it is complete, such as an evaluation.
        """
        self._raises = True
        try:
            if self.is_set():
                raise Interrupted
            yield
        finally:
            self._raises = False


@contextlib.contextmanager
def catch_interrupt(notice: str = "", at_once: str = "") -> Iterator[Interrupt]:
    """Yields what SIGTERM and Ctrl-C set instead of ending the process.

    Python handles signals in the main thread only; in other threads it stays unset.

    Args:
      notice: printed to stderr when the first signal arrives.
      at_once: the error that a second Ctrl-C raises; "" to ignore it.

    Raises:
      RetryableError: a second Ctrl-C came and `at_once` is not empty.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def on_signal(number: int, frame: Any) -> None:
        if interrupt.is_set() and number == signal.SIGINT and at_once:
            raise KeyboardInterrupt
        if not interrupt.is_set():
            # Not `print`: the signal may have interrupted one.
            os.write(_STDERR, notice.encode())
        interrupt.set(number)

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with interrupt.catching():
            yield interrupt
    except KeyboardInterrupt:
        raise RetryableError(at_once) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def terminated_with(code: int) -> Iterator[None]:
    """Lets SIGTERM end the process with a code, where there is nothing to save yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        raise SystemExit(code)

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
