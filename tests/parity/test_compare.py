"""A sketch detects the errors that the whole array detects, at equal tolerance."""

import numpy as np
import pytest
from flax import traverse_util

from tests.parity.compare import (
    LENGTH,
    ZERO,
    assert_close,
    deviation,
    key_biases,
    sketch,
    to_file_layout,
)

TOLERANCE = 1e-10
SHAPES = ((LENGTH + 1,), (40, 50), (3, 8, 8, 3))


def golden_array(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def draw_indices(size, count=40):
    return np.random.default_rng(1).choice(size, min(size, count), replace=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_arrays_have_deviation_zero(shape):
    golden = golden_array(shape)
    assert deviation(golden, golden) == deviation(golden, sketch(golden)) == 0
    with pytest.raises(AssertionError):
        deviation(golden[..., None], sketch(golden))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_wrong_entry_is_detected_anywhere(shape):
    golden = golden_array(shape)
    kept = sketch(golden)
    for index in draw_indices(golden.size):
        ours = golden.copy()
        ours.flat[index] += 1.01 * TOLERANCE * np.abs(golden).max()
        assert deviation(ours, golden) > TOLERANCE
        assert deviation(ours, kept) > TOLERANCE
        ours.flat[index] = golden.flat[index] + 0.4 * TOLERANCE * np.abs(golden).max()
        assert deviation(ours, golden) < TOLERANCE
        assert deviation(ours, kept) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_that_cancel_in_the_sum_are_detected(shape):
    golden = golden_array(shape)
    kept, indices = sketch(golden), draw_indices(golden.size)
    for first, second in zip(indices[:-1], indices[1:], strict=True):
        moved, swapped = golden.copy(), golden.copy()
        moved.flat[[first, second]] += [1e-6, -1e-6]
        swapped.flat[[first, second]] = golden.flat[[second, first]]
        for ours in (moved, swapped):
            assert deviation(ours, kept) > TOLERANCE


def test_permutations_and_signs_are_detected():
    golden = golden_array((48, 48))
    kept = sketch(golden)
    for ours in (golden.T, golden[::-1], np.roll(golden, 1, axis=1), -golden):
        assert deviation(ours, kept) > 1e-3


def test_nan_is_detected():
    golden = golden_array((40, 50))
    golden[7, 7] = np.nan
    assert not deviation(golden, sketch(golden_array((40, 50)))) < TOLERANCE


@pytest.mark.parametrize("keep", [np.asarray, sketch])
def test_structural_zeros_are_compared_absolutely(keep):
    """Noise of key biases is compared absolutely, and the rest relatively."""
    golden = golden_array(48 * 3)
    golden[48:96] *= 1e-17
    noise = golden_array(48, 1) * 1e-17
    arrays = {"attn.in_proj_bias": golden, "self_attn.k_proj.bias": noise}
    kept = {name: keep(value) for name, value in arrays.items()}

    def check(index, shift, name="attn.in_proj_bias", golden_zero=ZERO):
        ours = {key: value.copy() for key, value in arrays.items()}
        ours[name][index] += shift
        assert_close(ours, kept, TOLERANCE, key_biases, golden_zero)

    check(50, 0.5 * ZERO)
    check(3, 0.5 * ZERO, "self_attn.k_proj.bias")
    for index, shift, name in (
        (50, 2 * ZERO, "attn.in_proj_bias"),
        (100, 1e-6, "attn.in_proj_bias"),
        (3, 2 * ZERO, "self_attn.k_proj.bias"),
    ):
        with pytest.raises(AssertionError, match=name):
            check(index, shift, name)
    with pytest.raises(AssertionError):
        check(0, 0, golden_zero=1e-18)


def test_different_names_fail():
    with pytest.raises(AssertionError, match="'b'"):
        assert_close({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)}, TOLERANCE)


def to_tree(arrays):
    """Applies a name table that transposes, splits, joins, stacks and drops arrays."""
    query, key = np.split(arrays["qk"], 2)
    layers = np.stack([arrays["layer.0"], arrays["layer.1"]])
    joined = np.concatenate([arrays["q"], arrays["k"]])
    leaves = {"a/query": query.T, "a/key": key.T, "layers": layers, "b/joined": joined}
    leaves["scalar"] = arrays["scalar"][0]
    return traverse_util.unflatten_dict(leaves, sep="/")


def test_tree_is_converted_to_the_layout_of_the_file():
    shapes = {"qk": (6, 4), "layer.0": (5,), "layer.1": (5,), "q": (2,), "k": (2,)}
    shapes |= {"scalar": (1,), "count": ()}
    arrays = {name: golden_array(shape, 2) for name, shape in shapes.items()}
    ours = to_file_layout(to_tree(arrays), arrays, to_tree)
    assert ours.keys() == arrays.keys() - {"count"}
    for name, value in ours.items():
        np.testing.assert_array_equal(value, arrays[name])


def test_tree_with_other_leaves_fails():
    arrays = {"qk": np.ones((6, 4)), "layer.0": np.ones(5), "layer.1": np.ones(5)}
    arrays |= {"q": np.ones(2), "k": np.ones(2), "scalar": np.ones(1)}
    tree = to_tree(arrays)
    with pytest.raises(AssertionError, match="extra"):
        to_file_layout(tree | {"extra": np.ones(1)}, arrays, to_tree)
    with pytest.raises(AssertionError, match="layers"):
        to_file_layout(tree | {"layers": np.ones((5, 2))}, arrays, to_tree)
