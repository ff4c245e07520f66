"""What differs between two checkpoints."""

import dataclasses
from typing import Any

import numpy as np

from clipin_jax.config import difference
from clipin_jax.runs.checkpoint_tools.array_reader import read_arrays
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import (
    ArrayInfo,
    SavedCheckpoint,
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What differs between two checkpoints, a and b.

    Attributes:
      only_a: names of arrays that only the first one has.
      only_b: names of arrays that only the second one has.
      forms: name -> form in a and in b, where shapes or dtypes differ.
      distances: name -> ||a - b|| / max(||a||, ||b||) of the 2-norm, from 0 to 2, where
        values differ; the largest come first, and before them nan, for an array with
        values that are not finite.
      config: key -> value of a and of b, of the runs' configs; None if absent.
      num_equal: how many arrays have equal values.
    """

    only_a: list[str]
    only_b: list[str]
    forms: dict[str, tuple[ArrayInfo, ArrayInfo]]
    distances: dict[str, float]
    config: dict[str, tuple[Any, Any]]
    num_equal: int

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        arrays = self.only_a or self.only_b or self.forms or self.distances
        return not (arrays or self.config)


def compare_checkpoints(a: SavedCheckpoint, b: SavedCheckpoint) -> Comparison:
    """Compares two checkpoints array by array; at no time is a whole state in memory.

    Raises:
      ClipinError: an array cannot be read.
    """
    both = [name for name in a.arrays if name in b.arrays]
    forms = {x: (a.arrays[x], b.arrays[x]) for x in both if a.arrays[x] != b.arrays[x]}
    same_form = [name for name in both if name not in forms]
    pairs = zip(read_arrays(a, same_form), read_arrays(b, same_form), strict=True)
    distances = {}
    for name, (x, y) in zip(same_form, pairs, strict=True):
        if not np.array_equal(x, y, equal_nan=True):
            distances[name] = relative_distance(x, y)
    return Comparison(
        only_a=[name for name in a.arrays if name not in b.arrays],
        only_b=[name for name in b.arrays if name not in a.arrays],
        forms=forms,
        distances=dict(sorted(distances.items(), key=_largest_first)),
        config=difference(a.config, b.config),
        num_equal=len(same_form) - len(distances),
    )


def relative_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns ||a - b|| / max(||a||, ||b||) in float64; 0 for two arrays of zeros."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    largest = max(np.linalg.norm(a), np.linalg.norm(b))
    with np.errstate(invalid="ignore"):  # infinities
        return float(np.linalg.norm(a - b) / largest) if largest else 0.0


def _largest_first(item: tuple[str, float]) -> tuple[bool, float]:
    return not np.isnan(item[1]), -item[1]
