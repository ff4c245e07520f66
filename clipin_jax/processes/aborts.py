"""A line and an exit code for the end that jax's C++ code gives a process.

jax's coordinator lives in process 0. If that is killed, jax prints a report of many
lines in each of the others, and aborts them.
"""

import ctypes
import os
import signal
from collections.abc import Callable

from clipin_jax.errors import FAILED
from clipin_jax.processes.endings import flush, print_error

# C keeps the address of the handler only: Python must not remove it.
_handlers: list[object] = []


def explain_abort(message: str, leave: Callable[[int], object] = os._exit) -> None:
    """Lets an abort of this process end with a line and exit code 1.

    Args:
      message: of the line.
      leave: ends the process.
    """

    # Python's own handlers run in the main thread only, which never comes back here.
    def on_abort(number: int) -> None:
        flush()
        print_error(message)
        leave(FAILED)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
    _handlers.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)
