"""Calls the programs of engines, whose errors become one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from clipin_jax.errors import ClipinError, RetryableError, shorten

_PATIENCE = 300  # seconds that a client has
_LONGEST = 400  # letters of a client's message
_LOG = re.compile(r"[EWI]\d{4} \d\d:")  # lines that kubectl writes for its makers
# What clients put before a message: `sbatch: error: `, `ERROR: (gcloud.compute) `.
_PREFIX = re.compile(
    r"^(\w+: )?(error|ERROR|Error)( from server \(\w+\))?: (\([\w.-]+\) )?"
)


def check_client(program: str, source: str) -> None:
    """Checks that a program is installed.

    Args:
      program: its name.
      source: where to get it.

    Raises:
      ClipinError: it is not on the PATH.
    """
    if shutil.which(program) is None:
        raise ClipinError(
            f"no program {program} here: {source}; --dry-run shows the job without it"
        )


def call_client(command: Sequence[str], text: str | None = None) -> str:
    """Returns what a client prints.

    Args:
      command: program and arguments.
      text: for its input.

    Raises:
      ClipinError: it failed, with its message in one line.
      RetryableError: it did not answer.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except OSError as error:
        raise ClipinError(f"cannot start {command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RetryableError(
            f"{command[0]} did not answer within {_PATIENCE} s: is its server there?"
        ) from error
    if done.returncode:
        raise ClipinError(f"{command[0]}: {_message(done.stderr or done.stdout)}")
    return done.stdout


def _message(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    lines = [_PREFIX.sub("", line) for line in lines if not _LOG.match(line)]
    return shorten("; ".join(filter(None, lines)), _LONGEST) or "failed, without a word"
