"""The engine `local`: a process of this machine that outlives the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from clipin_jax.launchers.engine import State
from clipin_jax.launchers.engines import detached
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch, launch_path
from clipin_jax.launchers.templates import fill_text


@dataclasses.dataclass(frozen=True)
class Local:
    """Settings.

    Attributes:
      chip: of this machine with their number, for --plan, such as `h100:8`.
    """

    client: ClassVar[str] = "bash"
    client_source: ClassVar[str] = "install bash"

    chip: str = ""

    @property
    def processes(self) -> int:
        """How many processes of a run share its folder: they are of this machine."""
        return 1

    def sees(self, path: str) -> bool:
        """Returns that every path is seen."""
        return True

    def machine(self) -> str:
        """Returns the machine that the settings name."""
        return self.chip

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the script."""
        return {
            "job.sh": fill_text(
                "local/job.sh",
                dict(name=job.name, command=job.shell_command(here=True)),
            )
        }

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Starts the copies of the job, whose output goes to logs in the run folder."""
        command = ["bash", "-c", files["job.sh"]]
        logs = [launch_path(job.workdir, _log(copy)) for copy in range(job.array)]
        return [detached.start(command, log) for log in logs]

    def state(self, launch: Launch) -> State:
        """Looks for the processes."""
        alive = sum(map(detached.is_alive, launch.ids))
        if len(launch.ids) == 1:
            return State("running" if alive else "ended", bool(alive))
        return State(f"{alive} of {len(launch.ids)} running", bool(alive))

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns a command that prints the ends of the logs."""
        logs = [launch.path(_log(copy)) for copy in range(len(launch.ids))]
        return ["tail", "-n", "200", *(["-F"] if follow else []), *logs]

    def stop(self, launch: Launch) -> None:
        """Asks the processes to save and end."""
        for name in launch.ids:
            detached.terminate(name)


def _log(copy: int) -> str:
    return f"log-{copy}.txt"
