"""Arrays that are still in their files, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean


@dataclasses.dataclass(frozen=True)
class FileArray:
    """An array in a file.

    Attributes:
      shape: of the array.
      dtype: of numpy, or bfloat16 of ml_dtypes.
      read: returns the array, as a copy in memory. Raises ClipinError.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class FileArrays:
    """The arrays of one file or of several; see `weights.Weights`."""

    def __init__(
        self, origin: str, arrays: Mapping[str, FileArray], metadata: Mapping[str, Any]
    ):
        self.origin = origin
        self.metadata = metadata
        self.arrays = arrays

    def names(self) -> Sequence[str]:
        """Returns the names of all arrays, in the order of the file."""
        return tuple(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array. Raises ClipinError if there is none."""
        return self._array(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an array. Raises ClipinError if there is none."""
        return self._array(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Returns an array. Raises ClipinError if there is none, or it is damaged."""
        return self._array(name).read()

    def _array(self, name: str) -> FileArray:
        if name not in self.arrays:
            known = did_you_mean(name, self.arrays)
            raise ClipinError(f"{self.origin} has no array {name!r}: {known}")
        return self.arrays[name]
