import numpy as np

from clipin_jax.evaluators.probes.linear_head import cut_batches


def test_batches_have_every_row_once():
    rows, mask = cut_batches(np.arange(7)[::-1], 3)
    assert rows.shape == mask.shape == (3, 3)
    assert rows[mask].tolist() == [6, 5, 4, 3, 2, 1, 0]
