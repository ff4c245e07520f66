"""Arrays of files, by name, read one at a time, whatever wrote the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.interop.safetensors_files import (
    INDEX_SUFFIX,
    open_safetensors,
    open_safetensors_index,
    write_safetensors,
)

__all__ = ["Weights", "open_weights", "write_safetensors"]


class Weights(Protocol):
    """Arrays of files, by name, read one at a time.

    Methods raise ClipinError if there is no array of that name.

    Attributes:
      origin: the path, for messages.
      metadata: what else the file has, such as the numbers beside a state dict.
    """

    origin: str
    metadata: Mapping[str, Any]

    def names(self) -> Sequence[str]:
        """Returns the names of all arrays, in the order of the file."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array; does not read it."""
        ...

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an array, bfloat16 too; does not read it."""
        ...

    def read(self, name: str) -> np.ndarray:
        """Returns a new array, and reads no other. Raises ClipinError if damaged."""
        ...


def open_weights(path: str | Path) -> Weights:
    """Opens a file of weights; reads its table of contents alone.

    Args:
      path: a safetensors file, or the `.safetensors.index.json` of several.

    Raises:
      ClipinError: there is no such file, or it is damaged or of another kind.
    """
    path = storage.local_path(path)
    if not path.is_file():
        raise ClipinError(f"no file {path}")
    if path.name.endswith(INDEX_SUFFIX):
        return open_safetensors_index(path)
    return open_safetensors(path)
