"""Arrays of files, by name, read one at a time, whatever wrote the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipin_jax import storage
from clipin_jax.data.content import HEAD, describe_content
from clipin_jax.errors import ClipinError, first_few
from clipin_jax.interop.file_arrays import INDEX_SUFFIX, open_shards
from clipin_jax.interop.npz_files import is_npz, open_npz
from clipin_jax.interop.safetensors_files import open_safetensors, write_safetensors
from clipin_jax.interop.torch_files import open_torch

__all__ = ["Weights", "open_weights", "renamed", "weight_files", "write_safetensors"]

_SAFE = ".safetensors"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_OTHERS = (".npz", ".bin", ".pt", ".pth")
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_TORCH_INDEX = f".bin{INDEX_SUFFIX}"
_OPENING = slice(8, 9)  # of the header of safetensors


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
    """Opens weights; reads their table of contents alone, and runs nothing.

    Args:
      path: safetensors; `.npz`; a zip of PyTorch (`.pt`, `.pth`, `.bin`), TorchScript
        too; or the `.index.json` of several. The content decides, not the ending. Of a
        folder, its only file of weights: safetensors if there are any, else the others.

    Raises:
      ClipinError: there is no such file, it is damaged or of another kind, or a folder
        has several.
    """
    path = storage.local_path(path)
    if path.is_dir():
        path = _only_file(path)
    if not path.is_file():
        raise ClipinError(f"{path} is no file")
    if path.name.endswith(INDEX_SUFFIX):
        is_torch = path.name.endswith(_TORCH_INDEX)
        return open_shards(path, open_torch if is_torch else open_safetensors)
    try:
        head = storage.read_range(str(path), 0, HEAD)
    except OSError as error:
        raise ClipinError(f"cannot read {path}: {error.strerror or error}") from error
    if head.startswith(_ZIP):
        return open_npz(path) if is_npz(path) else open_torch(path)
    if head[_OPENING] != b"{" and (problem := _problem(path, head)):
        raise ClipinError(f"{path} {problem}")
    return open_safetensors(path)


def renamed(weights: Weights, endings: Sequence[tuple[str, str]]) -> Weights:
    """Returns the same weights with other names.

    Args:
      weights: whose names are those of an older version.
      endings: (old, new) pairs; what ends so gets the new ending.
    """
    names = {}
    for name in weights.names():
        old, new = next((e for e in endings if name.endswith(e[0])), ("", ""))
        names[f"{name.removesuffix(old)}{new}"] = name
    return _Renamed(weights, names)


class _Renamed:
    """Weights by other names; see `Weights`."""

    def __init__(self, weights: Weights, names: Mapping[str, str]):
        self.origin, self.metadata = weights.origin, weights.metadata
        self._weights, self._names = weights, names

    def names(self) -> Sequence[str]:
        return tuple(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights.shape(self._names.get(name, name))

    def dtype(self, name: str) -> np.dtype:
        return self._weights.dtype(self._names.get(name, name))

    def read(self, name: str) -> np.ndarray:
        return self._weights.read(self._names.get(name, name))


def weight_files(folder: Path) -> list[Path]:
    """Returns the files of weights in a folder, by name.

    Safetensors alone if there are any. An index stands for its shards.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    ending = {file: Path(file.name.removesuffix(INDEX_SUFFIX)).suffix for file in files}
    safe = [file for file in files if ending[file] == _SAFE]
    others = [file for file in files if ending[file] in _OTHERS]
    return _without_shards(safe) or _without_shards(others)


def _without_shards(files: Sequence[Path]) -> list[Path]:
    """Leaves out the shards, if their index is there."""
    indexes = [file for file in files if file.name.endswith(INDEX_SUFFIX)]
    whole = [file for file in files if file not in indexes]
    if indexes:
        whole = [file for file in whole if not _SHARD.search(file.name)]
    return indexes + whole


def _only_file(folder: Path) -> Path:
    """Returns the file of weights in a folder that has one."""
    files = weight_files(folder)
    if len(files) == 1:
        return files[0]
    several = f"several files of weights, {first_few([file.name for file in files])}"
    what = f"{several}: name one" if files else "no file of weights"
    raise ClipinError(f"{folder} has {what}")


def _problem(path: Path, head: bytes) -> str:
    """Returns what a file is that cannot be read, "" for damaged safetensors."""
    content = describe_content(head)
    if head.startswith(_PICKLE) or content == "a tar":
        return (
            "is in an old format of PyTorch or no weights: convert it where PyTorch is "
            "installed, torch.save(torch.load(f, weights_only=True), g)"
        )
    if content:
        return f"has no weights; it is {content}"
    if path.suffix == _SAFE:
        return ""
    return "is no file of weights: give safetensors, .npz, or what torch.save writes"
