"""Describes failures of orbax in one line, and hides tracebacks of its threads."""

import errno
import functools
import logging
import shutil
import sys
from pathlib import Path
from typing import Any


def failure_reason(error: BaseException, folder: Path) -> str:
    """Returns an error of orbax in one line.

    Args:
      error: of any type; errors of tensorstore have the cause only in their text.
      folder: a folder on the disk, which may be full.
    """
    if getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error):
        free = shutil.disk_usage(folder).free / 1e6
        return f"the disk is full ({free:.0f} MB free), make room"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


@functools.cache
def silence_orbax() -> None:
    """Hides the tracebacks of orbax's threads, since the caller gets the error."""
    logging.getLogger("absl").addFilter(
        lambda record: "orbax" not in Path(record.pathname).parts
    )
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # After one write failed, the others return to an event loop that is closed.
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = hook
