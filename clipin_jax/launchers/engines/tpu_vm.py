"""The engine `tpu-vm`: TPU VMs, which are asked for again when they are lost."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from clipin_jax.errors import ClipinError
from clipin_jax.launchers.clients import call_client
from clipin_jax.launchers.engine import State
from clipin_jax.launchers.engines import detached
from clipin_jax.launchers.engines.buckets import MOUNT, place
from clipin_jax.launchers.engines.tpu import Slice, find_slice
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch
from clipin_jax.launchers.templates import fill_text

_LOG = "/var/log/clipin.log"  # on the TPU VMs


@dataclasses.dataclass(frozen=True)
class TpuVm:
    """Settings.

    Attributes:
      project, zone: of Google Cloud.
      tpu: chip and topology of a slice, such as `v5e:4x4`.
      slices: of the job; the config sets `mesh.dcn` to as many.
      runtime: software of the TPU VMs; by default the one of their kind.
      spot: whether they may be preempted.
      network: of the project.
      service_account: of the TPU VMs, which may read and write the bucket.
      install: what pip installs on them.
      python: its version there.
      attempts: to get the queued resource, counted over the whole job.
    """

    client: ClassVar[str] = "gcloud"
    client_source: ClassVar[str] = "install the Google Cloud CLI"

    project: str = ""
    zone: str = ""
    tpu: str = ""
    slices: int = 1
    runtime: str = ""
    spot: bool = True
    network: str = ""
    service_account: str = ""
    install: str = "clipin_jax[tpu,remote]"
    python: str = "3.12"
    attempts: int = 100

    @property
    def processes(self) -> int:
        """How many processes a copy of the job has: one a host."""
        return self.slices * self._slice().vm_hosts

    def sees(self, path: str) -> bool:
        """Returns that no path is seen."""
        return False

    def machine(self) -> str:
        """Returns the machine by the planner's name."""
        return self.tpu if self.slices == 1 else f"{self.slices}x{self.tpu}"

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the script that asks for the TPUs, and the one that they run."""
        for key in ("project", "zone"):
            if not getattr(self, key):
                raise ClipinError(
                    f"tpu-vm.{key} is missing: --set {key}=..., or in the site file"
                )
        if self.slices < 1:
            raise ClipinError("tpu-vm.slices is 0: give a number of at least 1")
        placed, bucket = place(job, "tpu-vm", self)
        mount = ""
        if bucket:
            places = dict(bucket=shlex.quote(bucket), mount=MOUNT)
            mount = fill_text("tpu_vm/mount.sh", places).rstrip("\n")
        startup = dict(
            name=job.name,
            python=shlex.quote(self.python),
            install=shlex.quote(self.install),
            mount=mount,
            command=placed.shell_command(),
            log=_LOG,
        )
        return {
            "job.sh": fill_text("tpu_vm/job.sh", self._request(job)),
            "startup.sh": fill_text("tpu_vm/startup.sh", startup),
        }

    def _request(self, job: Job) -> dict[str, str | int]:
        tpu = self._slice()
        is_one = self.slices == 1
        return dict(
            names=" ".join(job.names()),
            done=shlex.quote(f"{job.workdir.rstrip('/')}/DONE"),
            project=shlex.quote(self.project),
            zone=shlex.quote(self.zone),
            accelerator=tpu.accelerator_type,
            runtime=shlex.quote(self.runtime or tpu.runtime),
            one_node='--node-id="$name"' if is_one else "",
            nodes="" if is_one else f'--node-count={self.slices} --node-prefix="$name"',
            spot="--spot" if self.spot else "",
            network=shlex.quote(self.network) if self.network else "",
            account=shlex.quote(self.service_account) if self.service_account else "",
            attempts=self.attempts,
        )

    def _slice(self) -> Slice:
        return find_slice("tpu-vm.tpu", self.tpu)

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Asks for the TPUs, and starts a process here that asks again."""
        folder = _local_folder(job.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        script = ["bash", str(folder / "job.sh")]
        try:
            call_client([*script, "create"])
        except ClipinError:
            shutil.rmtree(folder)
            raise
        watcher = detached.start([*script, "watch"], str(folder / "log.txt"))
        return [watcher, *job.names()]

    def state(self, launch: Launch) -> State:
        """Asks for the states of the queued resources."""
        watcher, *names = launch.ids
        texts = []
        for name in names:
            words = ("--filter", f"name~/{name}$", "--format=value(state.state)")
            texts.append(f"{name} {call_client(self._gcloud('list', *words)).strip()}")
        is_watched = detached.is_alive(watcher)
        if not is_watched:
            texts.append("no process of this machine asks again")
        return State("; ".join(texts), is_watched)

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns a command that prints the log of the first slice's hosts."""
        node = launch.ids[1] + ("-0" if self.slices > 1 else "")
        tail = f"sudo tail -n 200 {'-F ' if follow else ''}{_LOG}"
        return [
            *("gcloud", "compute", "tpus", "tpu-vm", "ssh", node, "--worker=all"),
            *(f"--project={self.project}", f"--zone={self.zone}", f"--command={tail}"),
        ]

    def stop(self, launch: Launch) -> None:
        """Ends the process that asks again, and deletes the queued resources."""
        watcher, *names = launch.ids
        detached.terminate(watcher)
        for name in names:
            call_client(self._gcloud("delete", name, "--force", "--quiet"))

    def _gcloud(self, verb: str, *words: str) -> list[str]:
        return [
            *("gcloud", "compute", "tpus", "queued-resources", verb, *words),
            *(f"--project={self.project}", f"--zone={self.zone}"),
        ]


def _local_folder(name: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "clipin_jax" / "launch" / name
