"""Arrays that are still in their files, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean, first_line


class Reading:
    """A context that turns errors of reading a file into ClipinError.

    Args:
      what: the file, or the file and the array.
    """

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raises ClipinError for what libraries raise on damaged files."""
        if error is None or isinstance(error, ClipinError):
            return
        if isinstance(error, OSError):
            reason = error.strerror or first_line(error)
            raise ClipinError(f"cannot read {self._what}: {reason}") from error
        if isinstance(error, Exception):
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ClipinError(
                f"{self._what} is damaged ({reason}): fetch it again"
            ) from error


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
