"""Sketches tell what whole arrays tell, at the same tolerance."""

import numpy as np
import pytest

from tests.parity.compare import (
    LENGTH,
    ZERO,
    assert_close,
    deviation,
    in_file_layout,
    key_biases,
    sketch,
)
from tests.parity.names.nested import nested

TOLERANCE = 1e-10
SHAPES = ((LENGTH + 1,), (40, 50), (3, 8, 8, 3))


def golden_array(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def some_places(size, count=40):
    return np.random.default_rng(1).choice(size, min(size, count), replace=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_arrays_do_not_deviate(shape):
    golden = golden_array(shape)
    assert deviation(golden, golden) == deviation(golden, sketch(golden)) == 0
    with pytest.raises(AssertionError):
        deviation(golden[..., None], sketch(golden))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_entry_above_the_tolerance_is_seen_wherever_it_is(shape):
    golden = golden_array(shape)
    kept = sketch(golden)
    for place in some_places(golden.size):
        ours = golden.copy()
        ours.flat[place] += 1.01 * TOLERANCE * np.abs(golden).max()
        assert deviation(ours, golden) > TOLERANCE
        assert deviation(ours, kept) > TOLERANCE
        ours.flat[place] = golden.flat[place] + 0.4 * TOLERANCE * np.abs(golden).max()
        assert deviation(ours, golden) < TOLERANCE
        assert deviation(ours, kept) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_that_cancel_in_the_sum_are_seen(shape):
    golden = golden_array(shape)
    kept, places = sketch(golden), some_places(golden.size)
    for first, second in zip(places[:-1], places[1:], strict=True):
        moved, swapped = golden.copy(), golden.copy()
        moved.flat[[first, second]] += [1e-6, -1e-6]
        swapped.flat[[first, second]] = golden.flat[[second, first]]
        for ours in (moved, swapped):
            assert deviation(ours, kept) > TOLERANCE


def test_another_order_is_seen():
    golden = golden_array((48, 48))
    kept = sketch(golden)
    for ours in (golden.T, golden[::-1], np.roll(golden, 1, axis=1), -golden):
        assert deviation(ours, kept) > 1e-3


def test_what_is_not_finite_is_seen():
    golden = golden_array((40, 50))
    golden[7, 7] = np.nan
    assert not deviation(golden, sketch(golden_array((40, 50)))) < TOLERANCE


@pytest.mark.parametrize("keep", [np.asarray, sketch])
def test_entries_that_are_zero_by_structure(keep):
    """Noise of key biases is compared absolutely, and the rest relatively."""
    golden = golden_array(48 * 3)
    golden[48:96] *= 1e-17
    noise = golden_array(48, 1) * 1e-17
    arrays = {"attn.in_proj_bias": golden, "self_attn.k_proj.bias": noise}
    kept = {name: keep(value) for name, value in arrays.items()}

    def check(place, by, name="attn.in_proj_bias", golden_zero=ZERO):
        ours = {key: value.copy() for key, value in arrays.items()}
        ours[name][place] += by
        assert_close(ours, kept, TOLERANCE, key_biases, golden_zero)

    check(50, 0.5 * ZERO)
    check(3, 0.5 * ZERO, "self_attn.k_proj.bias")
    for place, by, name in (
        (50, 2 * ZERO, "attn.in_proj_bias"),
        (100, 1e-6, "attn.in_proj_bias"),
        (3, 2 * ZERO, "self_attn.k_proj.bias"),
    ):
        with pytest.raises(AssertionError, match=name):
            check(place, by, name)
    with pytest.raises(AssertionError):
        check(0, 0, golden_zero=1e-18)


def test_names_must_be_the_same():
    with pytest.raises(AssertionError, match="'b'"):
        assert_close({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)}, TOLERANCE)


def to_tree(arrays):
    """A table that transposes, splits, joins, stacks and leaves out."""
    query, key = np.split(arrays["qk"], 2)
    layers = np.stack([arrays["layer.0"], arrays["layer.1"]])
    joined = np.concatenate([arrays["q"], arrays["k"]])
    leaves = {"a/query": query.T, "a/key": key.T, "layers": layers, "b/joined": joined}
    return nested((leaves | {"scalar": arrays["scalar"][0]}).items())


def test_a_tree_returns_to_the_layout_of_the_file():
    shapes = {"qk": (6, 4), "layer.0": (5,), "layer.1": (5,), "q": (2,), "k": (2,)}
    shapes |= {"scalar": (1,), "count": ()}
    arrays = {name: golden_array(shape, 2) for name, shape in shapes.items()}
    ours = in_file_layout(to_tree(arrays), arrays, to_tree)
    assert ours.keys() == arrays.keys() - {"count"}
    for name, value in ours.items():
        np.testing.assert_array_equal(value, arrays[name])


def test_a_tree_of_another_form_does_not_return():
    arrays = {"qk": np.ones((6, 4)), "layer.0": np.ones(5), "layer.1": np.ones(5)}
    arrays |= {"q": np.ones(2), "k": np.ones(2), "scalar": np.ones(1)}
    tree = to_tree(arrays)
    with pytest.raises(AssertionError, match="extra"):
        in_file_layout(tree | {"extra": np.ones(1)}, arrays, to_tree)
    with pytest.raises(AssertionError, match="layers"):
        in_file_layout(tree | {"layers": np.ones((5, 2))}, arrays, to_tree)
