"""Reads which devices exchange in a collective, in each form that XLA writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from clipin_jax.plan.program import Instruction

_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{.*?\})\}")
_COUNTED = re.compile(r"replica_groups=\[([\d,]+)\]<=(\[\S+)")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\S+)\))? \{([^}]*)\}"
)
_AXIS = re.compile(r"'(\w+)'(?:=(\d+)|:\((\d+)\)(\d+))?")


def device_groups(instruction: Instruction, devices: int) -> Sequence[Sequence[int]]:
    """Returns the groups of devices of a collective, or its pairs (source, target).

    Devices are numbered in the order of the mesh.

    Args:
      instruction: of a collective.
      devices: of the program, which are one group where none is written.
    """
    text = instruction.text
    if match := _LISTED.search(text):
        return [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", match[1])]
    if match := _COUNTED.search(text):
        return _order(match[2]).reshape(_numbers(match[1])).tolist()
    if match := _MESH.search(text):
        return _mesh_groups(*match.groups())
    return [range(devices)]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _order(text: str) -> np.ndarray:
    """Returns the devices of `[4,2]T(1,0)`: counted in that shape, then transposed."""
    shape, _, axes = text.partition("T")
    sizes = _numbers(shape)
    counted = np.arange(math.prod(sizes)).reshape(sizes)
    return counted.transpose(_numbers(axes)) if axes else counted


def _mesh_groups(mesh: str, order: str | None, axes: str) -> Sequence[Sequence[int]]:
    """Returns groups along some axes of a mesh, or along parts of these.

    A part `'x':(2)4` is the second factor of an axis x that is 2 x 4 x the rest.
    """
    sizes = {name: int(size) for name, size, _, _ in _AXIS.findall(mesh)}
    parts = {name: (before, size) for name, _, before, size in _AXIS.findall(axes)}
    shape: list[int] = []
    exchanged: list[int] = []
    for name, total in sizes.items():
        before, size = (int(x or 1) for x in parts.get(name, ("", "")))
        if name in parts:
            exchanged.append(len(shape) + 1)
            size = size if parts[name][1] else total
        shape += [before, size, total // (before * size)]
    ids = _order(order) if order else np.arange(math.prod(shape))
    last = range(-len(exchanged), 0)
    ids = np.moveaxis(ids.reshape(shape), exchanged, list(last))
    return ids.reshape(-1, math.prod(shape[axis] for axis in exchanged)).tolist()
