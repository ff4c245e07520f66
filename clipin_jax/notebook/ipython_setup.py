"""What the import of the package sets up where IPython is running."""

from __future__ import annotations

import logging
import sys
import warnings

from clipin_jax.errors import LOG_FORMAT
from clipin_jax.notebook import formatters
from clipin_jax.notebook.environment import in_ipython


def set_up() -> None:
    """Shows objects in rich forms, and warnings as the command line does.

    Does nothing outside of IPython: the logs of a program are its own matter.
    """
    if in_ipython():
        formatters.register()
        show_warnings(logging.getLogger("clipin_jax"))
        ignore_forks()


class _CurrentStderr(logging.Handler):
    """Prints to the stderr of the moment, which is stdout while a cell trains."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def show_warnings(logger: logging.Logger) -> None:
    """Lets the warnings of a logger read as on the command line.

    A logger that has a handler is left alone.
    """
    if logger.handlers:
        return
    handler = _CurrentStderr()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    logger.propagate = False  # the root may have a handler, which prints them again


def ignore_forks() -> None:
    """Silences what jax says when `!` starts a program: the fork runs nothing else."""
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
