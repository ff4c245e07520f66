"""Processes of this machine that outlive the command that starts them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from clipin_jax.errors import ClipinError
from clipin_jax.runs.owner import process_started


def start(command: Sequence[str], log: str) -> str:
    """Starts a process in a session of its own; returns its name for `is_alive`.

    Args:
      command: program and arguments.
      log: the file to which its output is added.

    Raises:
      ClipinError: it cannot be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        number = os.posix_spawnp(
            command[0], list(command), os.environ, file_actions=files, setsid=True
        )
    except OSError as error:
        raise ClipinError(
            f"cannot start {command[0]} with its log {log}: {error.strerror}"
        ) from error
    # Numbers are given again: when it started tells it from others.
    return f"{number}@{process_started(number)}"


def is_alive(name: str) -> bool:
    """Returns whether a process that `start` named is there."""
    number, _, started = name.partition("@")
    return process_started(int(number)) == started != ""


def terminate(name: str) -> None:
    """Sends SIGTERM to a process that `start` named, if it is there."""
    if is_alive(name):
        os.kill(int(name.partition("@")[0]), signal.SIGTERM)
