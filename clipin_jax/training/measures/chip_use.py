"""How much of the arithmetic and of the memory of its devices a run uses."""

from typing import Any

import jax

from clipin_jax.plan.machines import GIB, peak_flops
from clipin_jax.runs.build import Experiment
from clipin_jax.training.measures.model_flops import step_flops


class ChipUse:
    """Computes the figures of the devices whose peak, and whose memory, is known."""

    def __init__(self, experiment: Experiment, train_step: Any):
        """Counts the arithmetic of a step, if the peak of the devices is known.

        Args:
          experiment: of the run; its mesh is the one of the context.
          train_step: from `jit_train_step`.
        """
        mesh = experiment.mesh
        device = mesh.devices.flat[0]
        peak = peak_flops(device.device_kind, getattr(device, "num_cores", 1))
        self._flops = step_flops(train_step, experiment) if peak else 0.0
        self._peak = (peak or 0.0) * mesh.size
        self._batch_size = experiment.config.batch_size

    def figures(self, images_per_second: float) -> dict[str, float]:
        """Returns what is known of `mfu` and `peak_memory_gib`.

        `mfu` is the share of the peak of all devices, in bfloat16, that the model's
        arithmetic needs, see `model_flops`. `peak_memory_gib` is the most that was used
        of the memory of any device of this process, since it began.

        Args:
          images_per_second: over all devices.
        """
        figures = {}
        if self._peak:
            flops = self._flops * images_per_second / self._batch_size
            figures["mfu"] = flops / self._peak
        if (most := _peak_memory_bytes()) is not None:
            figures["peak_memory_gib"] = most / GIB
        return figures


def _peak_memory_bytes() -> int | None:
    """Returns the largest peak of a device of this process; None if none tells."""
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    return max(peaks, default=None)
