"""Arrays of files, by name, read one at a time, whatever wrote the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipin_jax import storage
from clipin_jax.data.content import HEAD, describe_content
from clipin_jax.errors import ClipinError
from clipin_jax.interop.npz_files import is_npz, open_npz
from clipin_jax.interop.safetensors_files import (
    INDEX_SUFFIX,
    open_safetensors,
    open_safetensors_index,
    write_safetensors,
)
from clipin_jax.interop.torch_files import open_torch

__all__ = ["Weights", "open_weights", "write_safetensors"]

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
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
    """Opens a file of weights; reads its table of contents alone, and runs nothing.

    Args:
      path: safetensors, or the `.safetensors.index.json` of several; `.npz`; or a zip
        of PyTorch (`.pt`, `.pth`, `.bin`), TorchScript too. The content decides, not
        the ending.

    Raises:
      ClipinError: there is no such file, it is damaged or of another kind.
    """
    path = storage.local_path(path)
    if not path.is_file():
        what = "a folder: name a file in it" if path.is_dir() else "no file"
        raise ClipinError(f"{path} is {what}")
    if path.name.endswith(INDEX_SUFFIX):
        return open_safetensors_index(path)
    try:
        head = storage.read_range(str(path), 0, HEAD)
    except OSError as error:
        raise ClipinError(f"cannot read {path}: {error.strerror or error}") from error
    if head.startswith(_ZIP):
        return open_npz(path) if is_npz(path) else open_torch(path)
    if head[_OPENING] != b"{" and (problem := _problem(path, head)):
        raise ClipinError(f"{path} {problem}")
    return open_safetensors(path)


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
    if path.suffix == ".safetensors":
        return ""
    return "is no file of weights: give safetensors, .npz, or what torch.save writes"
