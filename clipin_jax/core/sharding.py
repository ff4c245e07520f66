"""Shards arrays over a mesh: batches over all axes, the train state by rules."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clipin_jax.core.parameter_paths import compile_pattern, map_paths
from clipin_jax.errors import ClipinError, check_choice, shorten

# The outermost first, which is the slowest: the network between slices.
AXES = ("dcn", "data", "fsdp")
# Rule -> the mesh axes over which the largest axis of an array is split: those within a
# slice, so that a step gathers the state on fast links.
RULES: dict[str, tuple[str, ...]] = {
    "replicate": (),
    "fsdp": ("fsdp",),
    "all": ("data", "fsdp"),
}
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


def make_mesh(
    data: int, fsdp: int, devices: Sequence[Any] | None = None, *, dcn: int = 1
) -> Mesh:
    """Returns a mesh over all devices, with the devices of a slice together.

    Args:
      data: number of devices on the `data` axis; -1 for all that remain of a slice.
      fsdp: number of devices on the `fsdp` axis, over which parameters may be split.
      devices: devices to use; by default those of all processes.
      dcn: number of slices, which a data-centre network connects.

    Raises:
      ClipinError: the axes do not multiply to the number of devices, or `dcn` is not
        the number of slices of TPUs.
    """
    devices = jax.devices() if devices is None else devices
    _check_slices(dcn, devices)
    count = len(devices) // dcn
    shape = (count // max(fsdp, 1) if data == -1 else data, fsdp)
    if math.prod(shape) != count:
        slices = f" in each of {dcn} slices" if dcn > 1 else ""
        raise ClipinError(
            f"mesh.data = {data} and mesh.fsdp = {fsdp} do not fit {count} "
            f"devices{slices}: their product must be the number of devices (data = -1 "
            "fills up)"
        )
    # jax orders the devices of each slice along its links.
    slices = [
        jax.make_mesh(shape, AXES[1:], devices=devices).devices
        for devices in _slices(devices, dcn)
    ]
    # Auto, not Explicit: Linen modules do not annotate their arrays.
    return Mesh(np.stack(slices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def count_slices(devices: Sequence[Any]) -> int:
    """Returns how many slices devices belong to; 1 where they are no TPUs."""
    # GPUs number their hosts likewise, which may well be one slice.
    tpus = [device for device in devices if device.platform == "tpu"]
    return max(1, len({_slice_of(device) for device in tpus}))


def _check_slices(dcn: int, devices: Sequence[Any]) -> None:
    if dcn < 1 or len(devices) % dcn:
        raise ClipinError(
            f"mesh.dcn = {dcn} does not divide {len(devices)} devices: give the number "
            "of slices, 1 without a network between them"
        )
    slices = count_slices(devices)
    if devices[0].platform == "tpu" and dcn != slices:
        raise ClipinError(
            f"mesh.dcn = {dcn}, but the devices have {slices} slice(s): set "
            f"mesh.dcn = {slices}"
        )


def _slices(devices: Sequence[Any], dcn: int) -> list[Sequence[Any]]:
    """Returns the devices of each slice; those of a host are together in any case."""
    devices = sorted(devices, key=_slice_of)
    size = len(devices) // dcn
    return [devices[first : first + size] for first in range(0, len(devices), size)]


def _slice_of(device: Any) -> int:
    return getattr(device, "slice_index", 0)


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
