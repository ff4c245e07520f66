"""Compares arrays and trees with golden numbers, kept whole or as sketches.

Deviation. A whole array deviates by max |a - b| / max |b|, where b is the golden one.
A sketch s(b) deviates by max |s(a) - s(b)| / max |b|. All its numbers are compared on
the scale of the array's entries, never on their own scale: a sum may cancel to almost
no_structural_zeros, and a norm grows with the size.

Sensitivity. One entry that is off by d moves both projections by at least d, since
their weights are at least 1 in magnitude. So an error of one entry that fails for the
whole array also fails for its sketch, at the same tolerance. Errors of many entries add
up, which makes a sketch the stricter test. They cancel in the sum if they sum to 0, but
not in two independent projections. Two entries that are swapped also move the
projections, as no two weights are equal.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

# Tolerances of the deviation, in float64.
FORWARD_TOLERANCE = 1e-11  # losses, features, hidden states, logits
GRADIENT_TOLERANCE = 1e-10
STATE_TOLERANCE = 1e-9  # target parameters, batch statistics, queues
ZERO = 1e-13  # bound of gradients that are 0 by structure

ENTRIES = 24  # kept of each array, at seeded indices
LENGTH = 3 + 2 + ENTRIES  # an array of no more numbers is kept whole


@dataclasses.dataclass(frozen=True)
class Sketch:
    """The numbers that are kept of a large array.

    Attributes:
      shape: of the array.
      numbers: [LENGTH] float64: largest magnitude, 2-norm, sum, two signed random
        projections, and `ENTRIES` entries.
    """

    shape: tuple[int, ...]
    numbers: np.ndarray

    @property
    def scale(self) -> float:
        """The largest magnitude in the array."""
        return float(self.numbers[0])


Golden = np.ndarray | Sketch
# From the name and the size of an array to the index of entries that are zero by
# structure: a slice, `...` for all entries, or None.
StructuralZeros = Callable[[str, int], Any]


def sketch(array: Any) -> Sketch:
    """Returns the sketch of an array of at least `ENTRIES` numbers, in C order.

    Sums are exactly rounded, so they do not depend on the machine.
    """
    array = np.asarray(array, np.float64)
    flat = array.ravel()
    indices, weights = _indices_and_weights(flat.size)
    numbers = [
        np.max(np.abs(flat)),
        math.sqrt(math.fsum(flat * flat)),
        math.fsum(flat),
        *(math.fsum(row * flat) for row in weights),
        *flat[indices],
    ]
    return Sketch(array.shape, np.array(numbers))


@functools.cache
def _indices_and_weights(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns [ENTRIES] indices, and [2, size] weights: a random sign times [1, 2).

    They come from the raw bits of PCG64, which numpy promises to keep.
    """
    order, *bits = np.random.PCG64(size).random_raw(3 * size).reshape(3, size)
    signs = 1.0 - 2.0 * (np.array(bits) & 1)
    magnitudes = 1.0 + (np.array(bits) >> 12) / 2.0**52
    return np.sort(np.argsort(order)[:ENTRIES]), signs * magnitudes


def deviation(ours: Any, golden: Any) -> float:
    """Returns max |a - b| / max |b| over the entries of an array or of a sketch."""
    ours = np.asarray(ours)
    if not isinstance(golden, Sketch):
        golden = np.asarray(golden)
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    if isinstance(golden, Sketch):
        a, b, scale = sketch(ours).numbers, golden.numbers, golden.scale
    else:
        a, b, scale = ours, golden, np.max(np.abs(golden))
    return float(np.max(np.abs(a - b)) / (scale or 1.0))


def no_structural_zeros(name: str, size: int) -> Any:
    """Returns None: no entry of an array is zero by structure."""
    return None


def key_biases(name: str, size: int) -> Any:
    """Returns the index of the biases of attention keys in an array of a PyTorch name.

    Their gradients are 0: they add the same number to all scores of a query.
    """
    if name.endswith((".key.bias", ".k_proj.bias")):
        return ...
    fused = name.endswith(("in_proj_bias", "qkv.bias"))
    return slice(size // 3, 2 * size // 3) if fused else None


def assert_close(
    ours: dict[str, np.ndarray],
    golden: dict[str, Golden],
    tolerance: float,
    zero: StructuralZeros = no_structural_zeros,
    golden_zero: float = ZERO,
) -> None:
    """Asserts that each array deviates from the golden one by less than `tolerance`.

    The entries that `zero` selects are zero by structure. Their values are
    rounding noise, so they are compared absolutely: ours with `ZERO`, golden ones
    with `golden_zero`.
    """
    assert ours.keys() == golden.keys(), ours.keys() ^ golden.keys()
    for name, value in ours.items():
        expected, noise = golden[name], zero(name, np.size(value))
        if noise is not None:
            assert np.max(np.abs(value[noise])) < ZERO, name
            value, expected, golden_noise = _without_noise(value, expected, noise)
            assert golden_noise < golden_zero, (name, golden_noise)
        error = deviation(value, expected)
        assert error < tolerance, (name, error)


def _without_noise(
    ours: np.ndarray, golden: Golden, noise: Any
) -> tuple[np.ndarray, Golden, float]:
    """Returns both arrays with zeros for noise, and the largest golden noise.

    In a sketch the noise of some entries is left as it is: it is far below the
    tolerance of the others.
    """
    ours = np.array(ours)
    ours[noise] = 0
    if isinstance(golden, Sketch):
        if noise is ...:
            return ours, np.zeros(golden.shape), golden.scale
        return ours, golden, 0.0
    golden = np.array(golden)
    largest = float(np.max(np.abs(golden[noise])))
    golden[noise] = 0
    return ours, golden, largest


def assert_tree_close(
    ours: Any,
    reference: Any,
    tolerance: float,
    zero: Callable[[str], Any] = lambda path: None,
) -> None:
    """Asserts that all leaves of two trees agree, see `assert_close`."""
    trees = (dict(_leaves(jax.device_get(tree))) for tree in (ours, reference))
    assert_close(*trees, tolerance, lambda path, _: zero(path))


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def to_file_layout(
    tree: Any,
    golden: dict[str, Golden],
    to_tree: Callable[[dict[str, np.ndarray]], Any],
) -> dict[str, np.ndarray]:
    """Returns the leaves of our tree under the names and in the layout of a file.

    `to_tree`, a name table, only moves entries. Applied to the index of each entry in
    the file, it gives the index in the file of each entry in our tree.

    Args:
      tree: ours.
      golden: arrays or sketches by name, of which only the shapes are read.
      to_tree: from arrays under the names of the file to a tree like ours. Arrays that
        it drops are not returned.
    """
    sizes = [math.prod(value.shape) for value in golden.values()]
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    positions = to_tree(
        {
            name: part.reshape(value.shape)
            for part, (name, value) in zip(parts, golden.items(), strict=True)
        }
    )
    ours, indices = dict(_leaves(jax.device_get(tree))), dict(_leaves(positions))
    assert ours.keys() == indices.keys(), ours.keys() ^ indices.keys()
    flat, known = np.zeros(sum(sizes)), np.zeros(sum(sizes), bool)
    for path, index in indices.items():
        assert np.shape(ours[path]) == np.shape(index), path
        flat[index], known[index] = ours[path], True
    moved = {}
    for part, (name, value) in zip(parts, golden.items(), strict=True):
        assert known[part].all() or not known[part].any(), name
        if known[part].any():
            moved[name] = flat[part].reshape(value.shape)
    return moved


def stacked(tree: Any) -> Any:
    """Stacks the layers `blocks_0`, ... as `blocks`, the tree of a scanned model."""
    if not isinstance(tree, dict):
        return tree
    layers = sorted(
        (k for k in tree if k.startswith("blocks_")), key=lambda k: int(k[7:])
    )
    rest = {k: stacked(v) for k, v in tree.items() if k not in layers}
    if not layers:
        return rest
    stack = jax.tree.map(lambda *p: np.stack(p), *(tree[k] for k in layers))
    return rest | {"blocks": stack}
