"""What to run, whatever the engine."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sysconfig
from pathlib import PurePosixPath

PROGRAM = "clipin"  # the first word of every command
_LONGEST_NAME = 40  # letters; Kubernetes adds to it, and takes 63


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, and the folder that it writes.

    Attributes:
      name: for the engine's lists; small letters, digits and hyphens.
      command: its words, such as `("clipin", "train", "clip", "--workdir", FOLDER)`.
      workdir: the folder that the command writes; path or URL, also in `command`.
      array: copies of the job that run at the same time, each on machines of its own.
    """

    name: str
    command: tuple[str, ...]
    workdir: str
    array: int = 1

    def at(self, workdir: str) -> Job:
        """Returns the job with another path to the same folder."""
        words = (workdir if word == self.workdir else word for word in self.command)
        return dataclasses.replace(self, command=tuple(words), workdir=workdir)

    def names(self) -> list[str]:
        """Returns a name for each copy."""
        if self.array == 1:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(self.array)]

    def shell_command(self, *, here: bool = False) -> str:
        """Returns the command for a shell.

        Args:
          here: name the program of this Python environment by its path.
        """
        program, *words = self.command
        if here and program == PROGRAM:
            program = os.path.join(sysconfig.get_path("scripts"), PROGRAM)
        return shlex.join([program, *words])


def job_name(text: str) -> str:
    """Returns a folder's name as Kubernetes and Google Cloud allow it."""
    last = PurePosixPath(text.rstrip("/")).name.lower()
    words = re.sub(r"[^a-z0-9]+", "-", last).strip("-")
    if not words[:1].isalpha():  # Google Cloud wants a letter first
        words = f"run-{words}"
    return words[:_LONGEST_NAME].strip("-")
