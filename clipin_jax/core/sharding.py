"""Shards arrays over a mesh: batches over all axes, the train state by rules."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clipin_jax.core.parameter_paths import compile_pattern, map_paths
from clipin_jax.errors import ClipinError, check_choice, shorten

AXES = ("data", "fsdp")
# Rule -> the mesh axes over which the largest axis of an array is split.
RULES: dict[str, tuple[str, ...]] = {"replicate": (), "fsdp": ("fsdp",), "all": AXES}
_AVERAGES = r"^(opt_state|target_params)/"
# Name -> rules for the paths of a train state.
PRESETS = {
    "replicate": ((r".*", "replicate"),),
    # ZeRO stage 1 (arXiv 1910.02054): a device keeps and updates its part of all, and a
    # step gathers the parameters once, see `compute_copies`.
    "zero1": ((r".*", "all"),),
    # Over the axis `fsdp`; each layer gathers its parameters when it runs.
    "fsdp": ((r".*", "fsdp"),),
    "fsdp+zero1": ((_AVERAGES, "all"), (r".*", "fsdp")),
}
GATHERED = ("zero1",)  # presets whose parameters a step gathers


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


def infer_sharding(
    tree: Any,
    mesh: Mesh,
    *,
    preset: str = "replicate",
    rules: Iterable[tuple[str, str]] = (),
    min_mib: float = 0.0,
) -> Any:
    """Returns the sharding of each leaf, by the first rule that matches its path.

    Args:
      tree: arrays or shapes, for example the whole train state.
      mesh: from `make_mesh`.
      preset: a key of `PRESETS`, the rules of the leaves that `rules` leaves out.
      rules: (regular expression, a key of `RULES`) pairs.
      min_mib: leaves of less, in MiB, are replicated: to send them takes longer than
        to read them.

    Raises:
      ClipinError: an unknown preset or rule, or one that is no pair or no regular
        expression.
    """
    check_choice("sharding.preset", preset, PRESETS)
    pairs = [*map(_pair, rules), *PRESETS[preset]]
    compiled = [(compile_pattern(p, "sharding.rules"), name) for p, name in pairs]
    for pattern, name in compiled:
        check_choice(f"the rule {pattern.pattern!r} in sharding.rules", name, RULES)

    def sharding(path: str, leaf: Any) -> NamedSharding:
        name = next(name for pattern, name in compiled if pattern.search(path))
        large = math.prod(leaf.shape) * leaf.dtype.itemsize >= min_mib * 2**20
        axes = RULES[name] if large else ()
        return NamedSharding(mesh, PartitionSpec(*_split(leaf.shape, axes, mesh)))

    return map_paths(sharding, tree)


def _pair(rule: Any) -> tuple[Any, Any]:
    if not isinstance(rule, tuple | list) or len(rule) != 2:
        raise ClipinError(
            f"sharding.rules has {shorten(repr(rule))}: give pairs (pattern, rule), "
            'such as (".*", "replicate")'
        )
    return rule[0], rule[1]


def _split(shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh) -> list[Any]:
    """Returns the mesh axes of each array axis: `axes` for the largest they divide."""
    size = math.prod(mesh.shape[axis] for axis in axes)
    splittable = [axis for axis, n in enumerate(shape) if n % size == 0 and n >= size]
    if not axes or not splittable:
        return []
    largest = max(splittable, key=lambda axis: shape[axis])
    return [axes if axis == largest else None for axis in range(len(shape))]


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


class PlacedNumbers:
    """Places the numbers of each step on every device; an equal one stays there."""

    def __init__(self, mesh: Mesh):
        """Places nothing yet; mesh: from `make_mesh`."""
        self._sharding = replicated(mesh)
        self._placed: dict[str, tuple[np.ndarray, Any]] = {}

    def place(self, numbers: Any) -> Any:
        """Returns the tree with arrays in place of numbers.

        Args:
          numbers: a tree of numpy scalars, equal in every process.
        """
        return map_paths(self._place, numbers)

    def _place(self, path: str, number: np.ndarray) -> Any:
        before, placed = self._placed.get(path, (None, None))
        if before is None or before.tobytes() != number.tobytes():
            placed = jax.make_array_from_process_local_data(self._sharding, number)
            self._placed[path] = number, placed
        return placed
