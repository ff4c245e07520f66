"""The GPUs of a host, and how many of them the processes of a run use.

On Slurm and Open MPI jax gives each task one GPU: one task on a node of eight leaves
seven idle.
"""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipin_jax.processes.group import Group

_GPUS = ("gpu", "cuda", "rocm")  # platforms of jax
_NVIDIA = re.compile(r"nvidia\d+")


def visible_gpus(
    environ: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> list[str]:
    """Returns the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    if environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in environ:
        names = environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in names if name.strip() not in ("", "-1")]
    count = sum(bool(_NVIDIA.fullmatch(path.name)) for path in devices.iterdir())
    return [str(index) for index in range(count)]


def idle_gpus(group: Group | None, devices: Sequence[Any]) -> str:
    """Returns a line about GPUs of a host that no process uses; "" if there are none.

    Args:
      group: of this process, whose processes all call it; None if it is alone.
      devices: that this process uses, of jax.
    """
    if devices[0].platform not in _GPUS:
        return ""
    hosts = [socket.gethostname()] if group is None else group.hosts
    counts = len(visible_gpus()), len(devices)
    every = [counts] if group is None else group.gather("gpus", counts, "count GPUs")
    for host in dict.fromkeys(hosts):
        here = [pair for pair, name in zip(every, hosts, strict=True) if name == host]
        there, used = max(v for v, _ in here), sum(u for _, u in here)
        if used < there:
            return (
                f"{used} of the {there} GPUs of {host} are used: start one task for "
                f"each (srun --ntasks-per-node={there}), or give all to one with "
                f"JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(there)))}"
            )
    return ""


def describe_processes(group: Group | None) -> str:
    """Returns how many processes on how many hosts, for a banner."""
    if group is None:
        return "processes 1"
    hosts = len(set(group.hosts))
    return f"processes {group.count} on {hosts} host{'s' if hosts > 1 else ''}"
