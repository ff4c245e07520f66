"""The order in which a run reads records: position in the run -> index in the source.

Nothing here holds a list of indices, so the number of records does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import grain
import numpy as np

from clipin_jax.data.source import MixturePart

_WINDOW_BLOCKS = 8  # blocks whose records are mixed with each other
_EXAMPLES = 1 << 60  # more than any run reads, and few enough for grain to count
_ROUNDS = 4  # of the permuting hash, as in grain


def endless_order(
    parts: Sequence[MixturePart], *, seed: int, shuffle: bool, block: int = 0
) -> grain.MapDataset:
    """Returns the epochs of every part, with parts interleaved by their weights.

    Each epoch of a part is a new permutation of all its records. In any number of
    consecutive positions every part has its share, up to one record.

    Args:
      parts: of the source, in the order of their indices.
      seed: of the order.
      shuffle: whether epochs are permuted at all.
      block: 0 to permute records freely. Otherwise records are read in blocks of so
        many neighbours, for data with slow random access (object stores, spinning
        disks). Blocks are permuted, then the records within each eight blocks, so that
        neighbours stay within eight blocks of each other.

    Returns:
      A dataset of 2 ** 60 indices, which no run reads to the end.
    """
    # The seed is hashed, since grain adds the epoch to it: seed 1 would begin with the
    # second epoch of seed 0.
    seeds = np.random.SeedSequence(seed).generate_state(len(parts))
    streams, first = [], 0
    for part, part_seed in zip(parts, seeds.tolist(), strict=True):
        stream = grain.MapDataset.range(first, first + part.length)
        if shuffle and not block:
            stream = stream.shuffle(seed=part_seed)
        stream = stream.repeat(_EXAMPLES // part.length)
        if shuffle and block:
            order = _BlockOrder(first, part.length, block, part_seed)
            stream = stream.map_with_index(order)
        streams.append(stream)
        first += part.length
    if len(streams) == 1:
        return streams[0]
    return grain.MapDataset.mix(streams, [part.weight for part in parts])


class _BlockOrder:
    """Turns positions into indices; blocks of neighbours are read together."""

    def __init__(self, first: int, length: int, block: int, seed: int):
        self._first, self._length, self._block = first, length, block
        self._seed = seed

    def __call__(self, position: int, _: int) -> int:
        epoch, offset = divmod(position, self._length)
        draws = np.random.SeedSequence((self._seed, epoch)).generate_state(3).tolist()
        window, inside = divmod(offset, _WINDOW_BLOCKS * self._block)
        start = window * _WINDOW_BLOCKS * self._block
        size = min(_WINDOW_BLOCKS * self._block, self._length - start)
        offset = start + _permuted(inside, size, draws[0] ^ window)
        block, inside = divmod(offset, self._block)
        # A last block that is not full stays last.
        if block < self._length // self._block:
            block = _permuted(block, self._length // self._block, draws[1])
        # The rotation makes blocks begin at other records in each epoch.
        rotated = block * self._block + inside + draws[2]
        return self._first + rotated % self._length


def _permuted(index: int, size: int, seed: int) -> int:
    return grain.experimental.index_shuffle(index, size - 1, seed, _ROUNDS)
