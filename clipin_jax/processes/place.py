"""Which process of a run this one is: told by flags or variables, else detected."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from clipin_jax.errors import ClipinError, explained, shorten

# Flag -> the variable that a launcher sets instead.
VARIABLES = {
    "--coordinator": "CLIPIN_COORDINATOR",
    "--processes": "CLIPIN_NUM_PROCESSES",
    "--process": "CLIPIN_PROCESS_ID",
}
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):(\d{1,5})")
_ALONE = "CLIPIN_NUM_PROCESSES=1 makes this one a run of its own"


@dataclasses.dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Attributes:
      coordinator: HOST:PORT, where process 0 listens.
      count: number of processes.
      index: of this one, from 0.
      devices: numbers of the GPUs of this host that it uses; None for all.
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Returns the host and the port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def find_place(
    flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Place | None:
    """Returns the place of this process; None if it is alone.

    Args:
      flags: by the names of `VARIABLES`; None or "" where not given.
      environ: the variables of this process.

    Raises:
      ClipinError: flags and variables are incomplete or contradict each other, or a
        cluster was detected whose processes cannot be told apart.
    """
    given = {flag: flags.get(flag) for flag in VARIABLES}
    given = {
        flag: environ.get(VARIABLES[flag], "") if value in (None, "") else value
        for flag, value in given.items()
    }
    given = {flag: str(value) for flag, value in given.items() if value != ""}
    return _told(given, environ) if given else _detected(environ)


def _told(given: dict[str, str], environ: Mapping[str, str]) -> Place | None:
    numbers = {f: _number(f, given[f]) for f in VARIABLES if f in given and f[2] == "p"}
    count, index = numbers.get("--processes"), numbers.get("--process")
    if count == 0:
        raise ClipinError(f"{_name('--processes')} is 0: give at least 1")
    if count is not None and index is not None and index >= count:
        raise ClipinError(
            f"{_name('--process')} is {index} of {_name('--processes')} {count}: they "
            f"are counted from 0 to {count - 1}"
        )
    if count == 1:
        return None
    if environ.get("JAX_COORDINATOR_ADDRESS"):
        given = {"--coordinator": environ["JAX_COORDINATOR_ADDRESS"]} | given
    if missing := [_name(flag) for flag in VARIABLES if flag not in given]:
        there = " and ".join(_name(flag) for flag in VARIABLES if flag in given)
        raise ClipinError(
            f"{there} without {' and '.join(missing)}: give all three, as in "
            "--coordinator HOST:PORT --processes 2 --process 0, or none"
        )
    assert count is not None and index is not None
    return Place(_address(given["--coordinator"]), count, index, _chosen(environ))


def _number(flag: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ClipinError(
            f"{_name(flag)} is {shorten(repr(text))}: give a whole number, from "
            f"{0 if flag == '--process' else 1}"
        )
    return int(text)


def _name(flag: str) -> str:
    return f"{flag} ({VARIABLES[flag]})"


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not match or not 0 < int(match[2]) < 2**16:
        raise ClipinError(
            f"{_name('--coordinator')} is {shorten(repr(text))}: give the host of "
            "process 0 and a free port, as in 10.0.0.1:1234"
        )
    return text


def _chosen(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """Returns the GPUs that JAX_LOCAL_DEVICE_IDS names; None for all."""
    if not (text := environ.get("JAX_LOCAL_DEVICE_IDS", "")):
        return None
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ClipinError(
            f"JAX_LOCAL_DEVICE_IDS is {shorten(repr(text))}: give numbers of GPUs with "
            "commas between, as in 0,1"
        ) from None


def _detected(environ: Mapping[str, str]) -> Place | None:
    """Returns the place that jax detects: Open MPI, Slurm, Cloud TPU, Kubernetes."""
    _check_batch_shell(environ)
    if _is_unknown_pod(environ):
        return None
    with explained(f"the processes of this run could not be detected ({_ALONE})"):
        cluster = _cluster()
        if cluster is None or (count := cluster.get_process_count()) == 1:
            return None
        index = cluster.get_process_id()
        coordinator = environ.get("JAX_COORDINATOR_ADDRESS")
        if not coordinator:
            port = environ.get("JAX_COORDINATOR_PORT")
            coordinator = cluster.get_coordinator_address(60, port)
        local = cluster.get_local_process_id()
    devices = _chosen(environ)
    if devices is None and local is not None and _sees(local, environ):
        devices = (local,)  # as jax does: one GPU for each task of a node
    return Place(_address(coordinator), count, index, devices)


def _sees(gpu: int, environ: Mapping[str, str]) -> bool:
    """Whether a GPU may exist; Slurm can also show each task its own alone."""
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    return not visible or gpu < len(visible.split(","))


def _cluster() -> Any:
    """Returns the first cluster that is there, in jax's order, or None."""
    from jax._src import clusters

    kinds = clusters.ClusterEnv._cluster_types
    there = (k for k in kinds if not k.opt_in_only_method and k.is_env_present())
    return next(there, None)


def _check_batch_shell(environ: Mapping[str, str]) -> None:
    """Refuses the shell of a job of several tasks, which `srun` starts."""
    if "SLURM_JOB_ID" not in environ or "SLURM_STEP_NODELIST" in environ:
        return
    counts = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_JOB_NUM_NODES")
    tasks = next((environ[name] for name in counts if name in environ), "1")
    nodes = environ.get("SLURM_JOB_NUM_NODES", "1")
    if (tasks, nodes) != ("1", "1"):
        raise ClipinError(
            f"this is the shell of a Slurm job of {nodes} nodes and {tasks} tasks, "
            f"which runs commands once: start it with `srun clipin ...` ({_ALONE})"
        )


def _is_unknown_pod(environ: Mapping[str, str]) -> bool:
    """Whether this is a pod whose place jax cannot detect.

    A pod that is not of an indexed job, such as that of a notebook, is alone.
    """
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return False
    if any(name in environ for name in ("MEGASCALE_NUM_SLICES", "SLURM_JOB_ID")):
        return False
    if environ.get("TPU_WORKER_HOSTNAMES", "localhost") != "localhost":
        return False
    if "JOB_COMPLETION_INDEX" not in environ:
        return True
    try:
        import kubernetes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        print(
            "clipin: warning: this pod of an indexed Kubernetes job trains alone: for "
            "one run of all pods pip install 'jax[k8s]', or set "
            f"{', '.join(VARIABLES.values())}",
            file=sys.stderr,
        )
        return True
    return False
