"""The order of records: each once an epoch, in shares by weight, well mixed."""

import itertools

import numpy as np
import pytest

from clipin_jax.data.order import endless_order
from clipin_jax.data.source import MixturePart


def first(count, *parts, start=0, **options):
    options = dict(seed=0, shuffle=True) | options
    order = endless_order([MixturePart(*part) for part in parts], **options)
    return [order[place] for place in range(start, start + count)]


@pytest.mark.parametrize("length", [1, 7, 40, 97])
@pytest.mark.parametrize("block", [0, 1, 5, 200])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_has_every_record_once(length, block, shuffle):
    order = first(3 * length, (length,), shuffle=shuffle, block=block)
    epochs = [order[start : start + length] for start in (0, length, 2 * length)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(length))
    if shuffle and length > 7:
        assert epochs[0] != epochs[1] != epochs[2]


def test_seeds_differ_in_all_epochs():
    starts = {
        tuple(first(50, (50,), seed=seed, start=50 * epoch, block=block))
        for seed, epoch, block in itertools.product(range(3), range(3), (0, 4))
    }
    assert len(starts) == 18


def test_parts_have_shares_by_weight_and_separate_epochs():
    order = first(400, (60, 3.0), (20, 1.0))
    small = [index for index in order if index >= 60]
    large = [index for index in order if index < 60]
    assert len(large) == 300 and len(small) == 100
    for start in range(0, 100, 20):
        assert sorted(small[start : start + 20]) == list(range(60, 80))
    for start in range(0, 300, 60):
        assert sorted(large[start : start + 60]) == list(range(60))
    for start in range(0, 400, 8):
        assert sum(index >= 60 for index in order[start : start + 8]) == 2


def test_blocks_are_read_together_and_mixed():
    length, block = 6400, 20
    order = np.array(first(length, (length,), block=block))
    # A run of eight blocks is read whole before the next one is touched.
    for start in range(0, length, 8 * block):
        blocks = set(((order[start : start + 8 * block]) // block).tolist())
        assert len(blocks) <= 16  # turned, a block lies in two of the given numbering
    # Within a run records are mixed; the runs come from everywhere.
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.05
    assert np.ptp(order[: 8 * block]) > length / 4


def test_starting_is_fast_at_any_size():
    order = endless_order([MixturePart(10**12)], seed=1, shuffle=True, block=1000)
    assert 0 <= order[5 * 10**11] < 10**12
    order = endless_order([MixturePart(10**9)], seed=1, shuffle=True)
    assert 0 <= order[5 * 10**8] < 10**9
