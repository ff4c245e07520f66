"""Linear layers in a row as one, and biases that move into the norm before."""

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.projections import merge_projection, move_bias

RNG = np.random.default_rng(0)
NORM, PRE, LAYER = (
    "towers/text/ln",
    "towers/text_pre_projector",
    "towers/text_projection",
)


def arrays(inputs=12, between=16, outputs=8):
    shapes = {
        f"{NORM}/scale": inputs, f"{NORM}/bias": inputs,
        f"{PRE}/kernel": (inputs, between), f"{PRE}/bias": between,
        f"{LAYER}/kernel": (between, outputs), f"{LAYER}/bias": outputs,
    }  # fmt: skip
    return {k: RNG.normal(size=v).astype(np.float32) for k, v in shapes.items()}


def run(flat, x):
    x = x * flat[f"{NORM}/scale"] + flat[f"{NORM}/bias"]
    for layer in (PRE, LAYER):
        if f"{layer}/kernel" in flat:
            x = x @ flat[f"{layer}/kernel"] + flat.get(f"{layer}/bias", 0)
    return x


def test_outputs_stay_the_same():
    flat, x = arrays(), RNG.normal(size=(5, 12))
    merged = merge_projection(flat, "text")
    assert f"{PRE}/kernel" not in merged and merged[f"{LAYER}/kernel"].shape == (12, 8)
    moved = move_bias(merged, LAYER, NORM, "it")
    assert f"{LAYER}/bias" not in moved
    assert {value.dtype for value in moved.values()} == {np.dtype(np.float32)}
    for other in (merged, moved):
        np.testing.assert_allclose(run(other, x), run(flat, x), rtol=0, atol=1e-4)


def test_a_single_layer_is_left_as_it_is():
    flat = {k: v for k, v in arrays().items() if PRE not in k}
    merged = merge_projection(flat, "text")
    assert all(merged[path] is value for path, value in flat.items())


def test_a_bias_of_zeros_is_left_out():
    flat = arrays() | {f"{LAYER}/bias": np.zeros(8, np.float32)}
    moved = move_bias(flat, LAYER, NORM, "it")
    np.testing.assert_array_equal(moved[f"{NORM}/bias"], flat[f"{NORM}/bias"])


def test_more_outputs_than_inputs_are_refused():
    merged = merge_projection(arrays(inputs=6), "text")
    with pytest.raises(
        ClipinError, match="it cannot hold this model: towers/text_proj"
    ):
        move_bias(merged, LAYER, NORM, "it")
