"""What every engine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch


class State(NamedTuple):
    """What an engine knows of a job.

    Attributes:
      text: in the engine's words.
      is_active: whether it waits, runs, or will be started again.
    """

    text: str
    is_active: bool


class Engine(Protocol):
    """A scheduler with the settings of a site, which are the fields of its class.

    All methods but `render`, `sees` and `machine` call the engine's client.
    """

    client: ClassVar[str]
    """The program that submits."""
    client_source: ClassVar[str]
    """Where to get it, for a message."""

    @property
    def processes(self) -> int:
        """How many processes a copy of the job has, over all of its machines."""
        ...

    def sees(self, path: str) -> bool:
        """Returns whether its machines have a path of this one, under the same name."""
        ...

    def machine(self) -> str:
        """Returns the machine as the planner names it, as `v5e:4x4`; "" if unknown."""
        ...

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the job's files by name; the first one is submitted.

        Raises:
          ClipinError: a setting is missing, or wrong.
        """
        ...

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Submits the files; returns the engine's names of the jobs.

        Raises:
          ClipinError: the client refused, in one line; nothing is submitted.
        """
        ...

    def state(self, launch: Launch) -> State:
        """Asks for the state. Raises ClipinError."""
        ...

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns the command that prints what the job printed."""
        ...

    def stop(self, launch: Launch) -> None:
        """Ends the job, which saves first, and keeps it from being started again."""
        ...
