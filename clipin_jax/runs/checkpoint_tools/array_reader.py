"""Reads arrays of a checkpoint one after the other, on any machine."""

from collections.abc import Iterable, Iterator

import numpy as np
import orbax.checkpoint as ocp

from clipin_jax.errors import ClipinError
from clipin_jax.runs.checkpoint_failures import failure_reason, silence_orbax
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import SavedCheckpoint

# Small arrays are read together, since each read takes 10 ms whatever the size.
_GROUP_BYTES = 1 << 24


def read_arrays(
    checkpoint: SavedCheckpoint, names: Iterable[str]
) -> Iterator[np.ndarray]:
    """Yields arrays by their names, in this order.

    They are whole and on the host, whatever devices they were saved from. No more than
    16 MiB or one array are in memory at a time.

    Raises:
      ClipinError: an array cannot be read.
    """
    silence_orbax()
    for group in _groups(checkpoint, names):
        yield from _read(checkpoint, group)


def _groups(checkpoint: SavedCheckpoint, names: Iterable[str]) -> Iterator[list[str]]:
    group, size = [], 0
    for name in names:
        more = checkpoint.arrays[name].num_bytes
        if group and size + more > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += more
    if group:
        yield group


def _read(checkpoint: SavedCheckpoint, names: list[str]) -> Iterator[np.ndarray]:
    on_host = ocp.RestoreArgs(restore_type=np.ndarray)
    wanted = ocp.args.PyTreeRestore(
        dict.fromkeys(names, 0),
        restore_args=dict.fromkeys(names, on_host),
        partial_restore=True,
    )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            arrays = reader.restore(checkpoint.folder / "state", args=wanted)
    except Exception as error:  # orbax and tensorstore raise many kinds
        reason = failure_reason(error, checkpoint.folder)
        raise ClipinError(f"{checkpoint.label} cannot be read: {reason}") from error
    for name in names:
        yield np.asarray(arrays.pop(name))
