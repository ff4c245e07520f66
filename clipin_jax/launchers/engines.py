"""The engines by name."""

from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.jobset import JobSet
from clipin_jax.launchers.local import Local
from clipin_jax.launchers.skypilot import SkyPilot
from clipin_jax.launchers.slurm import Slurm
from clipin_jax.launchers.tpu_vm import TpuVm

ENGINES: dict[str, type[Engine]] = {
    "local": Local,
    "slurm": Slurm,
    "jobset": JobSet,
    "tpu-vm": TpuVm,
    "skypilot": SkyPilot,
}
