"""Arrays that are still in their files, by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean, first_few, first_line

INDEX_SUFFIX = ".index.json"


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


def open_shards(index: Path, open_file: Callable[[Path], FileArrays]) -> FileArrays:
    """Opens the files that an index lists; reads their tables of contents alone.

    Args:
      index: JSON as `save_pretrained` of transformers writes it.
      open_file: opens one of the files.

    Raises:
      ClipinError: it is no such file, a shard is missing or damaged, or a shard lacks
        an array that the index places there.
    """
    shard_of, metadata = _read_index(index)
    arrays: dict[str, FileArray] = {}
    for shard in dict.fromkeys(shard_of.values()):
        if not (index.parent / shard).is_file():
            raise ClipinError(f"{index} needs {shard}, which is not there: fetch it")
        opened = open_file(index.parent / shard)
        wanted = {name for name, place in shard_of.items() if place == shard}
        if absent := sorted(wanted - set(opened.arrays)):
            raise ClipinError(
                f"{index} names arrays that are not in {shard}: {first_few(absent)}; "
                "fetch both again"
            )
        arrays |= {
            name: opened.arrays[name] for name in opened.names() if name in wanted
        }
        metadata |= opened.metadata
    return FileArrays(str(index), arrays, metadata)


def _read_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the shard of each array, and the metadata."""
    try:
        index = json.loads(path.read_bytes())
        shard_of = dict(index["weight_map"])
        metadata = dict(index.get("metadata") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClipinError(
            f"{path} is no index of weights (JSON with a weight_map): "
            f"{first_line(error)}"
        ) from error
    for shard in shard_of.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ClipinError(f"{path} names {shard!r}, which is no file beside it")
    return shard_of, metadata
