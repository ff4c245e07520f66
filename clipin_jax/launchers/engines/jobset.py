"""The engine `jobset`: TPU slices of a GKE cluster, queued by Kueue."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar

from clipin_jax.errors import ClipinError
from clipin_jax.launchers.clients import call_client
from clipin_jax.launchers.engine import State
from clipin_jax.launchers.engines.buckets import MOUNT, place
from clipin_jax.launchers.engines.tpu import Slice, find_slice
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch
from clipin_jax.launchers.templates import dump, fill_tree

_CONTAINER = "clipin"
_COLUMNS = "{.status.terminalState} {.spec.suspend} {.status.restarts}"


@dataclasses.dataclass(frozen=True)
class JobSet:
    """Settings.

    Attributes:
      image: of the container; it has `clipin` and the extras `tpu` and `remote`.
      tpu: chip and topology of a slice, such as `v5e:4x4`.
      slices: of the job; the config sets `mesh.dcn` to as many.
      chips_per_host: of a node; by default 4, or 1 for a slice of one chip.
      queue: LocalQueue of Kueue.
      priority: WorkloadPriorityClass of Kueue.
      namespace: of Kubernetes.
      service_account: of Kubernetes, which may read and write the bucket.
      disk: PersistentVolumeClaim that many nodes may write, with folders of runs.
      disk_path: where this machine and the pods mount it.
      spot: whether the nodes are Spot VMs.
      restarts: after failures; those after a preemption are not counted.
      grace: seconds between SIGTERM and SIGKILL, in which the run saves.
      cluster, project, zone: for the lines of gcluster and xpk.
    """

    client: ClassVar[str] = "kubectl"
    client_source: ClassVar[str] = "gcloud components install kubectl"

    image: str = ""
    tpu: str = ""
    slices: int = 1
    chips_per_host: int = 0
    queue: str = ""
    priority: str = ""
    namespace: str = "default"
    service_account: str = ""
    disk: str = ""
    disk_path: str = "/disk"
    spot: bool = False
    restarts: int = 20
    grace: int = 120
    cluster: str = "CLUSTER"
    project: str = "PROJECT"
    zone: str = "ZONE"

    @property
    def processes(self) -> int:
        """How many processes a copy of the job has: one a host."""
        return self.slices * self._hosts()

    def sees(self, path: str) -> bool:
        """Returns whether a path is on the disk that the machines mount."""
        return bool(self.disk) and PurePath(path).is_relative_to(self.disk_path)

    def machine(self) -> str:
        """Returns the machine by the planner's name."""
        return self.tpu if self.slices == 1 else f"{self.slices}x{self.tpu}"

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns the manifest, which has a JobSet for each copy."""
        if not self.image:
            raise ClipinError(
                "jobset.image is missing: --set image=IMAGE, or in the site file"
            )
        if self.slices < 1:
            raise ClipinError("jobset.slices is 0: give a number of at least 1")
        placed, bucket = place(job, "jobset", self)
        manifests = [dump(self._manifest(placed, name, bucket)) for name in job.names()]
        return {"job.yaml": self._equal_lines(placed) + "---\n".join(manifests)}

    def _manifest(self, job: Job, name: str, bucket: str) -> dict[str, Any]:
        settings = dataclasses.asdict(self)
        tpu = self._slice()
        values = settings | dict(
            name=name,
            container=_CONTAINER,
            command=list(job.command),
            accelerator=tpu.gke_label,
            topology=tpu.topology,
            hosts=self._hosts(),
            chips_per_host=self._chips_per_host(),
            spot="true" if self.spot else "",
            has_mount="true" if bucket else "",
            bucket_mount="",
            bucket_volume="",
            disk_mount="",
            disk_volume="",
        )
        if bucket:
            places = dict(bucket=bucket, mount=MOUNT)
            added = fill_tree("jobset/bucket.yaml", places)
            values |= dict(bucket_mount=added["mount"], bucket_volume=added["volume"])
        if self.disk:
            places = dict(claim=self.disk, mount=self.disk_path)
            added = fill_tree("jobset/disk.yaml", places)
            values |= dict(disk_mount=added["mount"], disk_volume=added["volume"])
        return fill_tree("jobset/job.yaml", values)

    def _equal_lines(self, job: Job) -> str:
        """Returns comments with what other clients take; they treat exit codes alike,
        but count restarts after a preemption. They mount no disk.
        """
        if self.disk:
            return ""
        command = job.shell_command()
        common = [f"--cluster={self.cluster}", f"--project={self.project}"]
        kind = self._slice().accelerator_type
        gcluster = [
            "gcluster", "job", "submit", f"--name={job.name}", f"--image={self.image}",
            f"--command={command}", f"--compute-type={kind}",
            f"--topology={self._slice().topology}", f"--num-slices={self.slices}",
            *([f"--queue={self.queue}"] if self.queue else []),
            f"--restarts={self.restarts}", "--restart-on-exit-codes=1,75",
            f"--grace-period={self.grace}s", *common, f"--location={self.zone}",
        ]  # fmt: skip
        xpk = [
            "xpk", "workload", "create", f"--workload={job.name}",
            f"--docker-image={self.image}", f"--command={command}",
            f"--tpu-type={kind}", f"--num-slices={self.slices}",
            f"--max-restarts={self.restarts}", "--restart-on-exit-codes=1,75",
            f"--termination-grace-period-seconds={self.grace}", *common,
            f"--zone={self.zone}",
        ]  # fmt: skip
        return f"# As a line: {shlex.join(gcluster)}\n# or: {shlex.join(xpk)}\n"

    def _slice(self) -> Slice:
        return find_slice("jobset.tpu", self.tpu)

    def _chips_per_host(self) -> int:
        return self.chips_per_host or min(4, self._slice().chips)

    def _hosts(self) -> int:
        chips, per_host = self._slice().chips, self._chips_per_host()
        if chips % per_host:
            raise ClipinError(
                f"jobset.chips_per_host is {per_host}, which does not divide the "
                f"{chips} chips of {self.tpu}"
            )
        return chips // per_host

    def submit(self, job: Job, files: Mapping[str, str]) -> Sequence[str]:
        """Creates the JobSets; if one is refused, none is left."""
        create = ["kubectl", "create", "--filename=-"]
        call_client([*create, "--dry-run=server"], files["job.yaml"])
        call_client(create, files["job.yaml"])
        return job.names()

    def state(self, launch: Launch) -> State:
        """Asks for the state of the JobSets."""
        rows = [self._state(name) for name in launch.ids]
        texts = map("{} {}".format, launch.ids, (state.text for state in rows))
        return State("; ".join(texts), any(state.is_active for state in rows))

    def _state(self, name: str) -> State:
        answer = call_client(
            [
                *self._kubectl("get", "jobset", name),
                *("--ignore-not-found", f"--output=jsonpath={_COLUMNS}"),
            ]
        )
        if not answer:
            return State("not in the cluster", False)
        end, suspended, restarts = answer.split(" ")
        text = end or ("waits in its queue" if suspended == "true" else "runs")
        return State(f"{text}, {restarts or 0} restarts", not end)

    def log_command(self, launch: Launch, follow: bool) -> Sequence[str]:
        """Returns a command that prints the logs of the pods."""
        names = f"jobset.sigs.k8s.io/jobset-name in ({','.join(launch.ids)})"
        return [
            *self._kubectl("logs", f"--selector={names}"),
            *(f"--container={_CONTAINER}", "--prefix", "--tail=200"),
            *("--max-log-requests=1000", *(["--follow"] if follow else [])),
        ]

    def stop(self, launch: Launch) -> None:
        """Deletes the JobSets; their pods get SIGTERM and `grace` seconds to save."""
        call_client(
            [*self._kubectl("delete", "jobset", *launch.ids), "--ignore-not-found"]
        )

    def _kubectl(self, *words: str) -> list[str]:
        return ["kubectl", f"--namespace={self.namespace}", *words]
