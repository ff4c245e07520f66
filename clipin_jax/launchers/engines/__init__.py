"""The engines by name, one file each, and what several of them need."""

from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.engines.jobset import JobSet
from clipin_jax.launchers.engines.local import Local
from clipin_jax.launchers.engines.skypilot import SkyPilot
from clipin_jax.launchers.engines.slurm import Slurm
from clipin_jax.launchers.engines.tpu_vm import TpuVm

ENGINES: dict[str, type[Engine]] = {
    "local": Local,
    "slurm": Slurm,
    "jobset": JobSet,
    "tpu-vm": TpuVm,
    "skypilot": SkyPilot,
}
