"""The order in which a run reads records: position in the run -> index in the source.

Nothing here holds a list of indices, so the number of records does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import grain
import numpy as np

from clipin_jax.data.source import MixturePart

_WINDOW_BLOCKS = 8  # blocks whose records are mixed with each other
_EXAMPLES = 1 << 60  # beyond the end of any run, and grain can still count it
_ROUNDS = 4  # of the permuting hash, as in grain


def endless_order(
    parts: Sequence[MixturePart], *, seed: int, shuffle: bool, block: int = 0
) -> grain.MapDataset:
    """Returns the epochs of every part, with parts interleaved by their weights.

    Each epoch of a part is a new permutation of all its records. Of any number of
    consecutive positions every part has its share, to within one record.

    Args:
      parts: of the source, in the order of their indices.
      seed: of the order.
      shuffle: whether epochs are permuted at all.
      block: 0: a record may come at any position. Else records are read in blocks of so
        many neighbours, for data where random access is slow (object stores, spinning
        disks): blocks are permuted, then the records within each eight blocks. So
        neighbours stay within eight blocks of each other.

    Returns:
      A dataset of 2 ** 60 indices, which no run reads to the end.
    """
    # Hashed, because grain adds the epoch to the seed: seed 1 would begin with the
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
    """Position -> index, in an order that reads each block of neighbours at a time."""

    def __init__(self, first: int, length: int, block: int, seed: int):
        self._first, self._length, self._block = first, length, block
        self._seed = seed

    def __call__(self, position: int, _: int) -> int:
        epoch, place = divmod(position, self._length)
        draws = np.random.SeedSequence((self._seed, epoch)).generate_state(3).tolist()
        window, inside = divmod(place, _WINDOW_BLOCKS * self._block)
        start = window * _WINDOW_BLOCKS * self._block
        size = min(_WINDOW_BLOCKS * self._block, self._length - start)
        place = start + _permuted(inside, size, draws[0] ^ window)
        block, inside = divmod(place, self._block)
        if (
            block < self._length // self._block
        ):  # a last block that is not full stays last
            block = _permuted(block, self._length // self._block, draws[1])
        # Rotated, so that blocks begin at other records in each epoch.
        rotated = block * self._block + inside + draws[2]
        return self._first + rotated % self._length


def _permuted(place: int, size: int, seed: int) -> int:
    return grain.experimental.index_shuffle(place, size - 1, seed, _ROUNDS)
