"""The exceptions that users see, exit codes, and the nearest name for a wrong one.

Exit codes are for shells and schedulers; docs/guides/running.md has the table:
  DONE: all was done.
  FAILED: it failed, and the same command may succeed later or on another machine.
  REQUEUE: it was stopped with everything saved; the same command goes on.
  WRONG_INPUT: the config, the data or the command must be changed first.
  INTERRUPTED: Ctrl-C ended it.
"""

import contextlib
import difflib
import errno
import math
import os
import sysconfig
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# 75 and 78 are EX_TEMPFAIL and EX_CONFIG of sysexits.h; argparse ends with 2.
DONE, FAILED, REQUEUE, WRONG_INPUT, INTERRUPTED = 0, 1, 75, 78, 130

# How a warning of the package's loggers reads.
LOG_FORMAT = "clipin: %(levelname)s: %(message)s"
TRACEBACK = "CLIPIN_JAX_TRACEBACK"  # the environment variable that asks for tracebacks
_LISTED = 40  # names in a message, of a module with hundreds
_SHOWN = 3  # values of a list in a message
_LONGEST = 120  # letters of a value in a message
_LONGEST_PATH = 200  # letters of a path in a message
_LONGEST_ERROR = 400  # letters of an error of another package
# Folders of this package, of Python and of what is installed.
_LIBRARIES = (
    str(Path(__file__).resolve().parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib")),
)


# Errors of the system that may pass without a change by the user.
_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENOMEM, errno.ENFILE,
    errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.ESTALE, errno.EREMOTEIO,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENOTCONN, errno.ESHUTDOWN,
}  # fmt: skip


class ClipinError(Exception):
    """An error that the user can fix: it says what is wrong, where, and what to do.

    The command line prints it as a single line, without a traceback.
    """

    _passes = False  # unless its cause decides

    @property
    def is_retryable(self) -> bool:
        """Whether the same command may succeed later without a change by the user.

        That is so after a `RetryableError`, and after an error of the system that may
        pass, such as a full disk or a broken connection.
        """
        cause = self.__cause__
        if isinstance(cause, ClipinError):
            return self._passes or cause.is_retryable
        if isinstance(cause, (ConnectionError, TimeoutError)):
            return True
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno in _PASSING
        return self._passes

    def _render_traceback_(self) -> list[str]:
        """Returns what IPython shows of it: one line, as on the command line."""
        if os.environ.get(TRACEBACK):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


class RetryableError(ClipinError):
    """An error after which the same command may succeed later: engines try again."""

    _passes = True


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message about a wrong name: the nearest one, then all."""
    known = sorted(map(shorten, known))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    if len(known) > _LISTED:
        known = [*known[:_LISTED], "..."]
    return f"{guess}known: {', '.join(known) or 'none'}"


def describe_error(error: BaseException) -> str:
    """Returns an error of code outside of the package in one line, with its place.

    The place is the innermost line of the traceback outside of installed packages, if
    there is one, or the line that cannot be parsed:
    `ValueError: no such file (/home/me/birds/sources.py, line 12)`.
    """
    if isinstance(error, SyntaxError):
        message, place = error.msg, (error.filename, error.lineno)
    else:
        message = shorten((str(error).strip().splitlines() or [""])[0], _LONGEST_ERROR)
        stack = traceback.extract_tb(error.__traceback__)
        frames = [f for f in stack if not f.filename.startswith("<frozen ")]
        outside = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
        last = (outside or frames)[-1:]
        place = (last[0].filename, last[0].lineno) if last else ()
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{text} ({place[0]}, line {place[1]})" if place else text


@contextlib.contextmanager
def explained(what: str, ignored: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what code of another package raises into a ClipinError in one line.

    Args:
      what: the start of the message, such as a config key.
      ignored: exceptions that are left as they are.

    Raises:
      ClipinError: the code inside raised an exception.
    """
    try:
        yield
    except (ClipinError, *ignored):
        raise
    except Exception as error:
        raise ClipinError(f"{what}: {describe_error(error)}") from error


def check_choice(key: str, value: Any, choices: Collection[Any]) -> None:
    """Checks the value of an argument.

    Args:
      key: the argument, as a config names it.
      value: as given.
      choices: what it may be.

    Raises:
      ClipinError: it is none of the choices, with the nearest one.
    """
    if value not in choices:
        names = [str(choice) for choice in choices]
        shown = shorten(repr(value))
        raise ClipinError(f"{key} is {shown}: {did_you_mean(str(value), names)}")


def check_range(
    key: str, value: float, least: float, most: float, *, when: str = ""
) -> None:
    """Checks that a number is finite and within limits.

    Args:
      key: the argument, as a config names it.
      value: as given.
      least, most: the limits, which are allowed; infinite for none.
      when: the end of what the message says of the value, as " at step 3".

    Raises:
      ClipinError: it is not.
    """
    if least <= value <= most and math.isfinite(value):
        return
    limit = f"from {least:g} to {most:g}"
    if most == math.inf:
        limit = f"of at least {least:g}" if math.isfinite(least) else "that is finite"
    raise ClipinError(f"{key} is {value:g}{when}: give a number {limit}")


def shorten(text: str, most: int = _LONGEST) -> str:
    """Returns a value for a message in one line; a long one, as of base64, is cut."""
    # Half of a surrogate pair, as in a damaged file name, is no text for a terminal.
    text = " ".join(map(str.strip, text.splitlines()))
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shorten_path(path: str) -> str:
    """Returns a path or URL for a message; only what is hardly one is cut."""
    return shorten(path, _LONGEST_PATH)


def first_few(values: Sequence[Any]) -> str:
    """Returns the first few values of a list, for a message."""
    shown = ", ".join(shorten(str(value)) for value in values[:_SHOWN])
    return shown + (", ..." if len(values) > _SHOWN else "")


def first_line(value: Any, most: int = 200) -> str:
    """Returns the first line of an exception or another value, cut to `most`."""
    return (str(value).splitlines() or [type(value).__name__])[0][:most]
