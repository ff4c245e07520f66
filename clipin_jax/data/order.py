"""In which order a run meets its records: position in the run -> index in the source.

Nothing here holds a list of indices, so the number of records does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import grain
import numpy as np

from clipin_jax.data.source import MixturePart

_WINDOW_BLOCKS = 8  # blocks whose records are mixed with each other
_EXAMPLES = 1 << 60  # no run ends there, and grain can still count it
_ROUNDS = 4  # of the permuting hash, as grain itself takes


def endless_order(
    parts: Sequence[MixturePart], *, seed: int, shuffle: bool, block: int = 0
) -> grain.MapDataset:
    """Epoch after epoch of every part, parts interleaved by their weights.

    Each epoch of a part is a permutation of all its records, another one each time.
    Of any number of positions in a row every part has its share, to within one record.

    Args:
      parts: of the source; their indices follow one another.
      seed: of the order.
      shuffle: whether epochs are permuted at all.
      block: 0: any record may come at any place. Else records are read in blocks of so
        many neighbours, for data where jumping is dear (object stores, spinning
        disks): the blocks are permuted, then records within each run of eight blocks.
        Neighbours stay within eight blocks of each other.

    Returns:
      A dataset of indices, 2 ** 60 of them: without end, for all purposes.
    """
    # Hashed, because grain adds the epoch to the seed: seed 1 would begin with the
    # second epoch of seed 0.
    seeds = np.random.SeedSequence(seed).generate_state(len(parts))
    streams, first = [], 0
    for part, own in zip(parts, seeds.tolist(), strict=True):
        stream = grain.MapDataset.range(first, first + part.length)
        if shuffle and not block:
            stream = stream.shuffle(seed=own)
        stream = stream.repeat(_EXAMPLES // part.length)
        if shuffle and block:
            order = _BlockOrder(first, part.length, block, own)
            stream = stream.map_with_index(order)
        streams.append(stream)
        first += part.length
    if len(streams) == 1:
        return streams[0]
    return grain.MapDataset.mix(streams, [part.weight for part in parts])


class _BlockOrder:
    """Position -> index, in an order that reads blocks of neighbours together."""

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
        if block < self._length // self._block:  # the rest behind the blocks stays last
            block = _permuted(block, self._length // self._block, draws[1])
        # Turned, so that blocks begin elsewhere in each epoch, and the rest is another.
        turned = block * self._block + inside + draws[2]
        return self._first + turned % self._length


def _permuted(place: int, size: int, seed: int) -> int:
    return grain.experimental.index_shuffle(place, size - 1, seed, _ROUNDS)
