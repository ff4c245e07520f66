"""The engine `slurm`: a batch script that saves, requeues itself and goes on."""

from __future__ import annotations

import dataclasses
import glob
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar

from clipin_jax.errors import ClipinError
from clipin_jax.launchers.clients import call_client
from clipin_jax.launchers.engine import State
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch, launch_path
from clipin_jax.launchers.templates import fill_text

# The number of one of its jobs is that of the whole array.
_ARRAY_JOB = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Settings; "" and 0 leave a line out, so that the site's default counts.

    Attributes:
      account, partition, qos, constraint, reservation: as `sbatch` takes them.
      nodes: machines of a job.
      gpus: of a node.
      tasks_per_node: processes of a node; by default one for each GPU, else one.
      cpus_per_task: CPUs of a process.
      memory: of a node, such as `64G`; 0 with a unit is all of it.
      time: limit of one start, such as `12:00:00`; the job is started again after it.
      grace: seconds before that limit in which the run saves.
      restarts: after failures; those after a save or by Slurm itself are not counted.
      options: further words for `sbatch`, such as `--exclusive --licenses=nas`.
      setup: lines of shell before the command, such as `source venv/bin/activate`.
      container_image, container_mounts: of pyxis.
      coordinator: host at which the processes meet; by default the address that Slurm
        has of the first node.
      chip: GPU of the nodes for --plan, such as `h100`.
    """

    client: ClassVar[str] = "sbatch"
    client_source: ClassVar[str] = "login nodes of a Slurm cluster have it"

    account: str = ""
    partition: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    nodes: int = 1
    gpus: int = 0
    tasks_per_node: int = 0
    cpus_per_task: int = 0
    memory: str = ""
    time: str = ""
    grace: int = 120
    restarts: int = 3
    options: str = ""
    setup: str = ""
    container_image: str = ""
    container_mounts: str = ""
    coordinator: str = ""
    chip: str = ""

    @property
    def processes(self) -> int:
        """How many processes a copy of the job has."""
        return self.nodes * self._tasks()

    def sees(self, path: str) -> bool:
        """Returns that every path is seen."""
        return True

    def machine(self) -> str:
        """Returns the machine by the planner's name."""
        if not (self.chip and self.gpus):
            return ""
        return f"{self.chip}:{self.nodes * self.gpus}"

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the batch script."""
        if self.nodes < 1:
            raise ClipinError("slurm.nodes is 0: give a number of at least 1")
        here = not (self.setup or self.container_image)
        values = dict(
            {k: shlex.quote(v) if v else "" for k, v in self._names().items()},
            name=job.name,
            nodes=self.nodes,
            gpus=self.gpus or "",
            tasks_per_node=self._tasks(),
            cpus_per_task=self.cpus_per_task or "",
            array=f"0-{job.array - 1}" if job.array > 1 else "",
            job=_ARRAY_JOB if job.array > 1 else "$SLURM_JOB_ID",
            folder=shlex.quote(launch_path(job.workdir, "").rstrip("/")),
            restarts=self.restarts,
            log=shlex.quote(_log_pattern(job)),
            grace=self.grace,
            options="\n#SBATCH ".join(map(shlex.quote, shlex.split(self.options))),
            setup=self.setup.strip("\n"),
            local_device_ids=self._local_device_ids(),
            srun=self._srun(),
            meeting=self._meeting(),
            coordinator=shlex.quote(self.coordinator) if self.coordinator else "",
            command=job.shell_command(here=here),
        )
        return {"job.sh": fill_text("slurm/job.sh", values)}

    def _names(self) -> dict[str, str]:
        keys = "account partition qos constraint reservation memory time".split()
        return {key: getattr(self, key) for key in keys}

    def _tasks(self) -> int:
        return self.tasks_per_node or self.gpus or 1

    def _local_device_ids(self) -> str:
        """Returns the GPUs of a process where jax would take one alone."""
        tasks = self._tasks()
        if not self.gpus or tasks == self.gpus:
            return ""
        if tasks != 1:
            raise ClipinError(
                f"slurm.tasks_per_node is {tasks} with {self.gpus} GPUs: give "
                f"{self.gpus}, a process for each GPU, or 1"
            )
        return ",".join(map(str, range(self.gpus)))

    def _srun(self) -> str:
        words = ["srun", "--kill-on-bad-exit=0"]  # the others still save
        if self.cpus_per_task:  # srun does not take it from sbatch since 22.05
            words.append(f"--cpus-per-task={self.cpus_per_task}")
        if self.container_image:
            words.append(f"--container-image={self.container_image}")
        if self.container_mounts:
            words.append(f"--container-mounts={self.container_mounts}")
        return shlex.join(words)

    def _meeting(self) -> str:
        if self.processes == 1 or self.coordinator:
            return ""
        return fill_text("slurm/meeting.sh", {}).rstrip("\n")

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Submits the script."""
        answer = call_client(["sbatch", "--parsable"], files["job.sh"])
        return [answer.strip().partition(";")[0]]  # JOB, or JOB;CLUSTER

    def state(self, launch: Launch) -> State:
        """Asks `squeue`, which forgets a job some minutes after its end."""
        [job_id] = launch.ids
        # Not --jobs: an unknown number would be an error.
        lines = call_client(["squeue", "--noheader", "--me", "--format=%F|%i|%T|%r|%N"])
        rows = [line.split("|") for line in lines.splitlines()]
        ours = [row[1:] for row in rows if row[0] == job_id]
        return State(
            "; ".join(map(_state_text, ours)) or "not in the queue", bool(ours)
        )

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns a command that prints the ends of the logs."""
        pattern = f"slurm-{launch.ids[0]}*.out"
        folder = launch.path("")
        logs = sorted(glob.glob(pattern, root_dir=folder))
        if not logs:
            raise ClipinError(f"no {pattern} in {folder}: the job has not started")
        files = [os.path.join(folder, name) for name in logs]
        return ["tail", "-n", "200", *(["-F"] if follow else []), *files]

    def stop(self, launch: Launch) -> None:
        """Removes the job from the queue; one that runs saves first."""
        [job_id] = launch.ids
        if not self.state(launch).is_active:
            return
        call_client(["scontrol", "update", f"jobid={job_id}", "requeue=0"])
        call_client(["scancel", "--state=PENDING", job_id])
        call_client(["scancel", "--signal=TERM", job_id])


def _log_pattern(job: Job) -> str:
    copy = "%A_%a" if job.array > 1 else "%j"
    return launch_path(job.workdir, f"slurm-{copy}.out")


def _state_text(row: Sequence[str]) -> str:
    job_id, state, reason, nodes = row
    where = f"on {nodes}" if nodes else f"({reason})"
    return f"{job_id} {state} {where}"
