"""Compares arrays and trees with golden numbers, kept whole or as sketches.

Deviation. A whole array deviates by max |a - b| / max |b|, where b is the golden one.
A sketch s(b) deviates by max |s(a) - s(b)| / max |b|. All its numbers are compared on
the scale of the array's entries, never on their own scale: a sum may cancel to almost
nothing, and a norm grows with the size.

Sensitivity. One entry that is off by d moves both projections by at least d, since
their weights are at least 1 in magnitude. So an error of one entry that fails for the
whole array also fails for its sketch, at the same tolerance. Errors of many entries add
up, which makes a sketch the stricter test. They cancel in the sum if they sum to 0, but
not in two independent projections. Two entries that trade places also move the
projections, as no two weights are equal.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

ENTRIES = 24  # kept of each array, at seeded places
LENGTH = 3 + 2 + ENTRIES  # an array of no more numbers is kept whole
ZERO = 1e-13  # bound of gradients that are 0 by structure, in float64


@dataclasses.dataclass(frozen=True)
class Sketch:
    """What is kept of a large array.

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
# From the name and the size of an array to an index of it, `...` for all or None.
Zero = Callable[[str, int], Any]


def sketch(array: Any) -> Sketch:
    """Returns the sketch of an array of at least `ENTRIES` numbers, in C order.

    Sums are exactly rounded, so they do not depend on the machine.
    """
    array = np.asarray(array, np.float64)
    flat = array.ravel()
    places, weights = _places_and_weights(flat.size)
    numbers = [
        np.max(np.abs(flat)),
        math.sqrt(math.fsum(flat * flat)),
        math.fsum(flat),
        *(math.fsum(row * flat) for row in weights),
        *flat[places],
    ]
    return Sketch(array.shape, np.array(numbers))


@functools.cache
def _places_and_weights(size: int) -> tuple[np.ndarray, np.ndarray]:
    """[ENTRIES] indices, and [2, size] weights: a random sign times [1, 2).

    From the raw bits of PCG64, which numpy promises to keep.
    """
    order, *bits = np.random.PCG64(size).random_raw(3 * size).reshape(3, size)
    signs = 1.0 - 2.0 * (np.array(bits) & 1)
    magnitudes = 1.0 + (np.array(bits) >> 12) / 2.0**52
    return np.sort(np.argsort(order)[:ENTRIES]), signs * magnitudes


def deviation(ours: Any, golden: Any) -> float:
    """max |a - b| / max |b|, over entries of an array or numbers of a sketch."""
    ours = np.asarray(ours)
    if not isinstance(golden, Sketch):
        golden = np.asarray(golden)
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    if isinstance(golden, Sketch):
        a, b, scale = sketch(ours).numbers, golden.numbers, golden.scale
    else:
        a, b, scale = ours, golden, np.max(np.abs(golden))
    return float(np.max(np.abs(a - b)) / (scale or 1.0))


def nothing(name: str, size: int) -> Any:
    """No entry of an array is zero by structure."""
    return None


def key_biases(name: str, size: int) -> Any:
    """The entries of an array, by its PyTorch name, that are biases of attention keys.

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
    zero: Zero = nothing,
    golden_zero: float = ZERO,
) -> None:
    """Every array within `tolerance` of the golden one of the same name.

    The entries that `zero` gives are zero by structure. What is stored there is
    rounding noise, which is compared absolutely: ours is below `ZERO`, the golden one
    below `golden_zero`.
    """
    assert ours.keys() == golden.keys(), ours.keys() ^ golden.keys()
    for name, value in ours.items():
        expected, noise = golden[name], zero(name, np.size(value))
        if noise is not None:
            assert np.max(np.abs(value[noise])) < ZERO, name
            value, expected, stored = _without_noise(value, expected, noise)
            assert stored < golden_zero, (name, stored)
        off = deviation(value, expected)
        assert off < tolerance, (name, off)


def _without_noise(
    ours: np.ndarray, golden: Golden, noise: Any
) -> tuple[np.ndarray, Golden, float]:
    """Both arrays with zeros for noise, and the largest noise of the golden one.

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
    """Every leaf of two trees within `tolerance`, see `assert_close`."""
    trees = (dict(_leaves(jax.device_get(tree))) for tree in (ours, reference))
    assert_close(*trees, tolerance, lambda path, _: zero(path))


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def in_file_layout(
    tree: Any,
    golden: dict[str, Golden],
    to_tree: Callable[[dict[str, np.ndarray]], Any],
) -> dict[str, np.ndarray]:
    """The leaves of our tree, under the names and in the layout of a file.

    `to_tree`, a name table, only moves entries about. Applied to the position of each
    entry in the file, it shows where every entry of our tree came from.

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
    ours, places = dict(_leaves(jax.device_get(tree))), dict(_leaves(positions))
    assert ours.keys() == places.keys(), ours.keys() ^ places.keys()
    flat, known = np.zeros(sum(sizes)), np.zeros(sum(sizes), bool)
    for path, place in places.items():
        assert np.shape(ours[path]) == np.shape(place), path
        flat[place], known[place] = ours[path], True
    moved = {}
    for part, (name, value) in zip(parts, golden.items(), strict=True):
        assert known[part].all() or not known[part].any(), name
        if known[part].any():
            moved[name] = flat[part].reshape(value.shape)
    return moved


def stacked(tree: Any) -> Any:
    """The tree of a model with scanned layers: `blocks_0`, ... stacked as `blocks`."""
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
