"""How arrays of another library and ours become each other: by moving entries alone."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import NamedTuple

import numpy as np

from clipin_jax.errors import ClipinError

Arrays = Sequence[np.ndarray]
CHANNELS = 3


class Layout(NamedTuple):
    """Two functions, each the inverse of the other.

    Attributes:
      to_ours: their arrays -> ours.
      to_theirs: our arrays -> theirs.
    """

    to_ours: Callable[[Arrays], Arrays]
    to_theirs: Callable[[Arrays], Arrays]


def each(
    to_ours: Callable[[np.ndarray], np.ndarray],
    to_theirs: Callable[[np.ndarray], np.ndarray],
) -> Layout:
    """Returns the layout that maps arrays one to one."""
    return Layout(
        lambda arrays: [to_ours(x) for x in arrays],
        lambda arrays: [to_theirs(x) for x in arrays],
    )


def leading(axes: int) -> Layout:
    """Returns the layout of arrays that have `axes` more axes of size 1 in front."""
    return each(
        lambda x: x.reshape(x.shape[axes:]),
        lambda x: x.reshape((1,) * axes + x.shape),
    )


def joined(layout: Layout, parts: int) -> Layout:
    """Returns the layout of one array of ours that others keep in equal parts.

    Args:
      layout: of each part.
      parts: their number; ours has them side by side on its last axis.
    """
    return Layout(
        lambda arrays: [np.concatenate(layout.to_ours(arrays), axis=-1)],
        lambda arrays: layout.to_theirs(np.split(arrays[0], parts, axis=-1)),
    )


def parted(layout: Layout, parts: int) -> Layout:
    """Returns the reverse of `joined`: several arrays of ours, one of theirs."""
    return Layout(
        lambda arrays: np.split(layout.to_ours(arrays)[0], parts, axis=-1),
        lambda arrays: layout.to_theirs([np.concatenate(arrays, axis=-1)]),
    )


def heads(axis: int, num_heads: int) -> Layout:
    """Returns the layout of arrays in which one axis of ours is [heads, D/heads].

    Args:
      axis: of ours, not negative.
      num_heads: of their attention.
    """

    def to_theirs(x: np.ndarray) -> np.ndarray:
        size = x.shape[axis] // num_heads
        return x.reshape(*x.shape[:axis], num_heads, size, *x.shape[axis + 1 :])

    def to_ours(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    return each(to_ours, to_theirs)


def _patches_of_convolution(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(-1, kernel.shape[-1])


def _convolution_of_patches(kernel: np.ndarray) -> np.ndarray:
    side = isqrt(kernel.shape[0] // CHANNELS)
    if side * side * CHANNELS != kernel.shape[0]:
        raise ClipinError(
            f"a patch embedding of {kernel.shape[0]} rows has no square patches of "
            f"{CHANNELS} channels, the only ones that other libraries know"
        )
    return kernel.reshape(side, side, CHANNELS, -1)


def _with_its_position(arrays: Arrays) -> Arrays:
    token, table = (x.reshape(-1, x.shape[-1]) for x in arrays)
    return [token[0], np.concatenate([np.zeros_like(token), table])]


def _without_its_position(arrays: Arrays) -> Arrays:
    token, table = arrays
    return [(token + table[0])[None, None], table[None, 1:]]


SAME = each(lambda x: x, lambda x: x)
TRANSPOSED = each(np.transpose, np.transpose)
# Kernels [out, in, height, width] in PyTorch; [height, width, in, out] here.
CONVOLUTION = each(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# A class token that has no place in the table of positions; ours has the first one.
CLASS_TOKEN = Layout(_with_its_position, _without_its_position)
# The first layer of a ViT: a convolution of patches that do not overlap, a product.
FLAX_PATCHES = each(_patches_of_convolution, _convolution_of_patches)
TORCH_PATCHES = Layout(
    lambda arrays: FLAX_PATCHES.to_ours(CONVOLUTION.to_ours(arrays)),
    lambda arrays: CONVOLUTION.to_theirs(FLAX_PATCHES.to_theirs(arrays)),
)
