"""Shards arrays over a mesh: batches over both axes, parameters over `fsdp`."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clipin_jax.core.parameter_paths import compile_pattern, map_paths
from clipin_jax.errors import ClipinError, shorten

AXES = ("data", "fsdp")
RULES = ("replicate", "fsdp")


def make_mesh(data: int, fsdp: int, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh over all devices.

    Args:
      data: number of devices on the `data` axis; -1 for all that remain.
      fsdp: number of devices on the `fsdp` axis, over which parameters may be split.
      devices: devices to use; by default those of all processes.

    Raises:
      ClipinError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = (len(devices) // max(fsdp, 1) if data == -1 else data, fsdp)
    if math.prod(shape) != len(devices):
        raise ClipinError(
            f"mesh.data = {data} and mesh.fsdp = {fsdp} do not fit {len(devices)} "
            "devices: their product must be the number of devices (data = -1 fills up)"
        )
    # Auto, not Explicit: Linen modules do not annotate their arrays.
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def infer_sharding(tree: Any, rules: Iterable[tuple[str, str]], mesh: Mesh) -> Any:
    """Returns the sharding of each leaf, by the first rule that matches its path.

    Args:
      tree: arrays or shapes, for example the whole train state.
      rules: (regular expression, `replicate` or `fsdp`); `fsdp` splits the largest
        axis that the mesh axis divides, and replicates if there is none.
      mesh: from `make_mesh`.

    Raises:
      ClipinError: a rule that is no pair, unknown or no regular expression, or a leaf
        that no rule matches.
    """
    pairs = map(_pair, rules)
    compiled = [(compile_pattern(p, "sharding"), name) for p, name in pairs]
    for pattern, name in compiled:
        if name not in RULES:
            raise ClipinError(
                f"sharding rule {pattern.pattern!r} is {name!r}: use one of {RULES}"
            )

    def sharding(path: str, leaf: Any) -> NamedSharding:
        for pattern, name in compiled:
            if pattern.search(path):
                spec = _fsdp_spec(leaf.shape, mesh) if name == "fsdp" else ()
                return NamedSharding(mesh, PartitionSpec(*spec))
        raise ClipinError(f'no sharding rule matches {path}: end with (".*", ...)')

    return map_paths(sharding, tree)


def _pair(rule: Any) -> tuple[Any, Any]:
    if not isinstance(rule, tuple | list) or len(rule) != 2:
        raise ClipinError(
            f"sharding has {shorten(repr(rule))}: give pairs (pattern, rule), such as "
            '(".*", "replicate")'
        )
    return rule[0], rule[1]


def _fsdp_spec(shape: tuple[int, ...], mesh: Mesh) -> tuple[str | None, ...]:
    """Returns the mesh axis per array axis: `fsdp` for the largest that it divides."""
    size = mesh.shape["fsdp"]
    splittable = [axis for axis, n in enumerate(shape) if n % size == 0 and n >= size]
    if not splittable:
        return ()
    largest = max(splittable, key=lambda axis: shape[axis])
    return tuple("fsdp" if axis == largest else None for axis in range(len(shape)))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Checks that a batch can be split evenly over the devices.

    Raises:
      ClipinError: it cannot, with the nearest sizes that can.
    """
    if batch_size % mesh.size:
        below = batch_size // mesh.size * mesh.size
        nearest = " or ".join(str(n) for n in (below, below + mesh.size) if n)
        raise ClipinError(
            f"batch_size = {batch_size} cannot be split evenly over {mesh.size} "
            f"devices: use {nearest}"
        )


def put(batch: Any, mesh: Mesh) -> Any:
    """Places this process's share of a batch, and returns the global arrays.

    Args:
      batch: a tree of numpy arrays with the batch axis first.
      mesh: from `make_mesh`.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )
