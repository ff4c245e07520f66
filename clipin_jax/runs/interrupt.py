"""Catches signals, so that a long command saves before it stops."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from clipin_jax.errors import ClipinError

_STDERR = 2  # file descriptor


@contextlib.contextmanager
def catch_interrupt(notice: str = "", at_once: str = "") -> Iterator[threading.Event]:
    """Yields an event that SIGTERM or Ctrl-C sets instead of ending the process.

    Python handles signals in the main thread only; in other threads the event stays
    unset.

    Args:
      notice: printed to stderr when the first signal arrives.
      at_once: the error that a second Ctrl-C raises; "" to ignore it.

    Raises:
      ClipinError: a second Ctrl-C came and `at_once` is not empty.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: Any) -> None:
        if event.is_set() and number == signal.SIGINT and at_once:
            raise KeyboardInterrupt
        event.set()
        # Not `print`: the signal may have interrupted one.
        os.write(_STDERR, notice.encode())

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    except KeyboardInterrupt:
        raise ClipinError(at_once) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
