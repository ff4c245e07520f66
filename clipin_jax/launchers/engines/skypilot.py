"""The engine `skypilot`: a managed job on any cloud or cluster that SkyPilot knows."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, ClassVar

from clipin_jax.errors import ClipinError
from clipin_jax.launchers.clients import call_client
from clipin_jax.launchers.engine import State
from clipin_jax.launchers.engines.buckets import MOUNT, place
from clipin_jax.launchers.engines.tpu import Slice, find_slice
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch
from clipin_jax.launchers.templates import dump, fill_text, fill_tree

_ENDED = ("SUCCEEDED", "CANCELLED", "FAILED")
_JOB = re.compile(r"Managed Job ID: (\d+)|ID: (\d+)")


@dataclasses.dataclass(frozen=True)
class SkyPilot:
    """Settings.

    Attributes:
      gpus: of a node, such as `H100:8`.
      tpu: in place of GPUs, chip and topology of a slice, such as `v6e:4x4`.
      nodes: with GPUs.
      infra: where, such as `gcp/us-central1` or `kubernetes`; by default the cheapest.
      spot: whether the machines may be preempted.
      disk: volume of SkyPilot that many nodes may write, with folders of runs.
      disk_path: where this machine and the nodes mount it.
      image: of a container or disk, as SkyPilot names it.
      disk_gib: of a node.
      restarts: after errors; those after a preemption or a save are not counted.
      install: what pip installs on the machines.
      python: its version there.
    """

    client: ClassVar[str] = "sky"
    client_source: ClassVar[str] = "install skypilot in an environment of its own"

    gpus: str = ""
    tpu: str = ""
    nodes: int = 1
    infra: str = ""
    spot: bool = True
    disk: str = ""
    disk_path: str = "/disk"
    image: str = ""
    disk_gib: int = 256
    restarts: int = 0
    install: str = "clipin_jax[cuda,remote]"
    python: str = "3.12"

    @property
    def processes(self) -> int:
        """How many processes a copy of the job has: one a host."""
        return self._slice().vm_hosts if self.tpu else self.nodes

    def sees(self, path: str) -> bool:
        """Returns whether a path is on the disk that the machines mount."""
        return bool(self.disk) and PurePath(path).is_relative_to(self.disk_path)

    def machine(self) -> str:
        """Returns the machine by the planner's name; "" for a GPU without a count."""
        if self.tpu:
            return self.tpu
        name, _, count = self.gpus.lower().partition(":")
        chip = name.partition("-")[0]
        return f"{chip}:{self.nodes * int(count)}" if count.isdecimal() else ""

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the task."""
        if bool(self.gpus) == bool(self.tpu):
            raise ClipinError(
                "give either skypilot.gpus or skypilot.tpu: --set gpus=H100:8 or "
                "--set tpu=v6e:4x4"
            )
        if self.nodes < 1 or (self.tpu and self.nodes > 1):
            raise ClipinError(
                f"skypilot.nodes is {self.nodes}: give at least 1, and 1 with a TPU"
            )
        placed, bucket = place(job, "skypilot", self)
        tpu = self._slice() if self.tpu else None
        values: dict[str, Any] = dataclasses.asdict(self) | dict(
            name=job.name,
            accelerators=f"tpu-{tpu.accelerator_type}" if tpu else self.gpus,
            accelerator_args=dict(runtime_version=tpu.runtime) if tpu else "",
            mounts={MOUNT: _mount(bucket)} if bucket else "",
            volumes={self.disk_path: self.disk} if self.disk else "",
            setup=fill_text("skypilot/setup.sh", self._shell_values()),
            run=fill_text("skypilot/run.sh", self._run_values(placed)),
        )
        return {"task.yaml": dump(fill_tree("skypilot/task.yaml", values))}

    def _shell_values(self) -> dict[str, str]:
        return dict(python=shlex.quote(self.python), install=shlex.quote(self.install))

    def _run_values(self, job: Job) -> dict[str, str]:
        values = dict(command=job.shell_command(), count="", number="", addresses="")
        if not self.tpu and self.nodes > 1:  # jax detects the hosts of TPUs itself
            values |= dict(
                count='"$SKYPILOT_NUM_NODES"',
                number='"$SKYPILOT_NODE_RANK"',
                addresses='"$SKYPILOT_NODE_IPS"',
            )
        return values

    def _slice(self) -> Slice:
        return find_slice("skypilot.tpu", self.tpu)

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Launches a managed job for each copy."""
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder) / "task.yaml"
            task.write_text(files["task.yaml"])
            command = ["sky", "jobs", "launch", "--yes", "--detach-run", str(task)]
            ids: list[str] = []
            try:
                for name in job.names():
                    answer = call_client([*command, f"--name={name}"])
                    ids.append(_job_id(answer))
            except ClipinError:
                if ids:  # all or nothing
                    call_client(["sky", "jobs", "cancel", "--yes", *ids])
                raise
            return ids

    def state(self, launch: Launch) -> State:
        """Asks the queue of managed jobs."""
        lines = call_client(["sky", "jobs", "queue", "--all"]).splitlines()
        rows = [line.split() for line in lines]
        ours = [row for row in rows if row and row[0] in launch.ids]
        is_active = any(not set(" ".join(row).split()) & set(_ENDED) for row in ours)
        texts = [" ".join(row) for row in ours]
        return State("; ".join(texts) or "not in the queue", is_active)

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns a command that prints the log of the first copy."""
        return [
            *("sky", "jobs", "logs", launch.ids[0]),
            *([] if follow else ["--no-follow"]),
        ]

    def stop(self, launch: Launch) -> None:
        """Cancels the jobs; what was saved since the last checkpoint may be lost."""
        call_client(["sky", "jobs", "cancel", "--yes", *launch.ids])


def _mount(bucket: str) -> dict[str, str]:
    return dict(source=f"gs://{bucket}", mode="MOUNT")


def _job_id(answer: str) -> str:
    found = _JOB.search(answer)
    if not found:
        raise ClipinError(
            "sky launched the job but did not print its number: see `sky jobs queue`"
        )
    return found[1] or found[2]
