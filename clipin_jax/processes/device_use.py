"""The GPUs of a host, and how many of them the processes of a run use.

On Slurm and Open MPI jax gives each task one GPU: one task on a node of eight leaves
seven idle.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipin_jax.processes.group import Group

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


def idle_gpus(group: Group | None, used: int) -> str:
    """Returns a line about GPUs of a host that no process uses; "" if there are none.

    Args:
      group: of this process; None if it is alone.
      used: number of GPUs that this process uses.
    """
    visible = len(visible_gpus())
    hosts = ["this host"] if group is None else group.hosts
    pairs: Sequence[tuple[int, int]] = [(visible, used)]
    if group is not None:
        pairs = group.gather("gpus", (visible, used), "count its GPUs")
    for host in dict.fromkeys(hosts):
        here = [pair for pair, name in zip(pairs, hosts, strict=True) if name == host]
        there, taken = max(v for v, _ in here), sum(u for _, u in here)
        if taken < there:
            return (
                f"{taken} of the {there} GPUs of {host} are used: start one task for "
                f"each (srun --ntasks-per-node={there}), or give all to one with "
                f"JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(there)))}"
            )
    return ""
