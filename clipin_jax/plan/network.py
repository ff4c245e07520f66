"""Counts what devices send to other slices in a step, over the network.

The TPU compiler writes a collective of several slices as one within each slice, and a
transfer between hosts of what is left of it. In programs for other devices it is one
collective, of which the same is modelled: devices of a slice share what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from clipin_jax.plan.collectives import KINDS
from clipin_jax.plan.device_groups import device_groups
from clipin_jax.plan.program import Instruction, Program, num_bytes

_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_NAMES = {"one-to-one": "collective-permute"}  # the compiler's -> that of the kind


class Transfer(NamedTuple):
    """What a device sends to other slices.

    Attributes:
      kind: of the collective, see `collectives.KINDS`.
      runs: how often in a step.
      num_bytes: that a device sends in one run, on average of its slice.
    """

    kind: str
    runs: int
    num_bytes: float

    @property
    def total_bytes(self) -> float:
        """In a step."""
        return self.runs * self.num_bytes


def find_transfers(program: Program, devices: int, slices: int) -> list[Transfer]:
    """Returns what crosses slices, the largest first.

    Args:
      program: of all slices.
      devices: of the program, of which each slice has equally many.
      slices: their number.
    """
    if slices == 1:
        return []
    found = [
        Transfer(kind, runs, size)
        for name, runs in program.runs.items()
        for instruction in program.computations[name]
        for kind, size in _sent(instruction, devices, slices)
    ]
    return sorted(found, key=lambda transfer: transfer.total_bytes, reverse=True)


def _sent(
    instruction: Instruction, devices: int, slices: int
) -> Iterator[tuple[str, float]]:
    """Yields kind and bytes of an instruction, if it sends anything to other slices."""
    if instruction.opcode == "send":
        if match := _TRANSFER.search(instruction.text):
            kind = match[1].lower().replace("_", "-")
            kind = _NAMES.get(kind, kind)
            yield kind, _exchanged(kind, _first_bytes(instruction), slices)
    elif (kind := instruction.opcode.removesuffix("-start")) in KINDS:
        groups = device_groups(instruction, devices)
        size = devices // slices
        crossed = max(len({device // size for device in group}) for group in groups)
        if crossed > 1:
            sharing = len(groups[0]) // crossed
            left = _left_of(kind, num_bytes(instruction.type), sharing, crossed)
            yield kind, _exchanged(kind, left, crossed)


def _first_bytes(instruction: Instruction) -> int:
    """Returns the bytes of the array that is sent; a token follows it."""
    return num_bytes(instruction.type.partition("}")[0] + "}")


def _left_of(kind: str, result: float, sharing: int, slices: int) -> float:
    """Returns the bytes of a device that are left to exchange between slices.

    Args:
      kind: of the collective.
      result: its bytes on a device.
      sharing: devices of a slice in a group.
      slices: of a group.
    """
    if kind == "all-reduce":  # a reduce-scatter within the slice comes before
        return result / sharing
    if kind == "all-gather":  # an all-gather within the slice follows
        return result / (sharing * slices)
    return result * slices if kind == "reduce-scatter" else result


def _exchanged(kind: str, left: float, slices: int) -> float:
    """Returns the bytes that a device sends in an exchange between slices."""
    if kind == "all-gather":
        return left * (slices - 1)
    if kind in ("collective-permute", "collective-broadcast"):
        return left
    share = left * (slices - 1) / slices
    return 2 * share if kind == "all-reduce" else share
