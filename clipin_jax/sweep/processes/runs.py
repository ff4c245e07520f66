"""One training run of a study or a sweep: where it is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from clipin_jax.runs.folder import is_finished

DONE, STOPPED, PRUNED, TAKEN, FAILED = "done", "stopped", "pruned", "taken", "failed"


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is planned, and its places in the folder of a study or a sweep.

    Attributes:
      name: as it is printed.
      config: locked.
      home: the folder of the study or the sweep.
      place: of the run folder in it.
      may_go_on: whether a finished run of fewer steps goes on.
    """

    name: str
    config: ConfigDict
    home: Path
    place: Path
    may_go_on: bool = False

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.home / self.place

    @property
    def log(self) -> Path:
        """The file for what the run prints."""
        return (self.home / "logs" / self.place).with_suffix(".txt")

    @property
    def failure(self) -> Path:
        """The file that says why the run failed."""
        return (self.home / "failed" / self.place).with_suffix(".txt")

    @property
    def claim(self) -> Path:
        """The folder that the process owns which trains the run."""
        return self.home / "claims" / self.place

    def is_finished(self) -> bool:
        """Returns whether the run is done.

        Raises:
          ClipinError: the finished run there is of another config.
        """
        return is_finished(self.config, self.folder, may_go_on=self.may_go_on)


class Ended(NamedTuple):
    """How a run ended, or that it did not begin.

    Attributes:
      state: `DONE`; `STOPPED` by a signal or `PRUNED`, with everything saved; `TAKEN`,
        by another process; or `FAILED`.
      seconds: that it took.
      error: why it failed.
    """

    state: str
    seconds: float = 0.0
    error: str = ""
