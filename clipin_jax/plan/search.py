"""Finds the largest batch that fits a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import apply_changes
from clipin_jax.errors import ClipinError
from clipin_jax.plan.machines import Machine
from clipin_jax.plan.planner import Plan, make_plan

_MOST = 1 << 24  # pairs


def largest_batch(
    config: ConfigDict,
    machine: Machine,
    devices: Sequence[Any],
    *,
    quick: bool = False,
    report: Callable[[Plan], None] = lambda plan: None,
) -> Plan:
    """Returns the plan of the largest batch that fits: the config's times a power of 2.

    Args:
      config, machine, devices, quick: see `planner.make_plan`.
      report: called with each plan that was tried.

    Raises:
      ClipinError: not even one pair for each device fits.
    """

    def plan(batch_size: int) -> Plan:
        changed = apply_changes(config, {"batch_size": batch_size}).lock()
        result = make_plan(changed, machine, devices, quick=quick)
        report(result)
        return result

    best = plan(config.batch_size)
    grows = best.fits
    while best.fits == grows and best.batch_size < _MOST:
        size = best.batch_size * 2 if grows else best.batch_size // 2
        if size % len(devices):
            raise ClipinError(
                f"no batch fits {machine.name}: {best.batch_size} pairs are too many, "
                f"and {size} cannot be split evenly over {len(devices)} devices"
            )
        tried = plan(size)
        if grows and not tried.fits:
            break
        best = tried
    return best
