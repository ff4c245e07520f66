"""Reads the arrays of a model of ours from weights of another library."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.interop.positions import fit_positions, is_positions
from clipin_jax.interop.table import Table
from clipin_jax.interop.weights import Weights

SCANNED = "/blocks/"  # in paths of arrays that stack the layers


class Reading(NamedTuple):
    """What weights and a model have in common.

    Attributes:
      paths: of ours that the weights have.
      absent: paths of ours that they do not have.
      unused: names of theirs that no path of ours takes.
    """

    paths: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]


def compare_names(weights: Weights, table: Table, shapes: Mapping[str, Any]) -> Reading:
    """Compares the names of weights with the arrays of a model.

    Args:
      weights: of another library.
      table: its names.
      shapes: path -> anything with the shape of our array.
    """
    names = set(weights.names())
    taken: set[str] = set()
    there, absent = [], []
    for path, like in shapes.items():
        places = [table.place_of(ours) for ours in unscanned(path, like)]
        needed = {name for place in places if place for name in place.names}
        if None not in places and needed <= names:
            there.append(path)
            taken |= needed
        else:
            absent.append(path)
    unused = [n for n in weights.names() if n not in taken and not table.is_ignored(n)]
    return Reading(tuple(there), tuple(absent), tuple(unused))


def read_arrays(
    weights: Weights,
    table: Table,
    shapes: Mapping[str, Any],
    grid: tuple[int, int],
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Yields our arrays one by one, in the shape and dtype that our model has.

    Args:
      weights: of another library.
      table: its names.
      shapes: path -> shape and dtype, of the arrays to read.
      grid: rows and columns of patches, to resize a table of positions.

    Yields:
      The path, the array, and a line if its positions were fitted, else "".

    Raises:
      ClipinError: an array has another shape, or a damaged file.
    """
    for path, like in shapes.items():
        layers = [_read(weights, table, ours) for ours in unscanned(path, like)]
        value = np.stack(layers) if SCANNED in path else layers[0]
        line = ""
        if is_positions(path) and value.shape != like.shape:
            old = len(value)
            value = fit_positions(path, value, like.shape[0], grid)
            line = f"{path}: {old} positions fitted to {len(value)}"
        if value.shape != like.shape:
            raise ClipinError(
                f"{weights.origin}: {path} has the shape {value.shape}, but the config "
                f"makes it {like.shape}"
            )
        yield path, value.astype(like.dtype), line


def _read(weights: Weights, table: Table, path: str) -> np.ndarray:
    place = table.place_of(path)
    if place is None:
        raise ClipinError(f"{weights.origin} has no place for {path}")
    arrays = [_widened(weights.read(name)) for name in place.names]
    return place.layout.to_ours(arrays)[place.paths.index(path)]


def _widened(array: np.ndarray) -> np.ndarray:
    """Returns half precision as float32: some of its dtypes do not know all methods."""
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def unscanned(path: str, like: Any) -> list[str]:
    """Returns the paths of the layers that a scanned array stacks; else the path.

    Args:
      path: of ours.
      like: anything with the shape of the array.
    """
    if SCANNED not in path:
        return [path]
    return [path.replace(SCANNED, f"/blocks_{n}/") for n in range(like.shape[0])]
