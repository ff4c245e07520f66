"""Opens files of PyTorch (`.pt`, `.pth`, `.bin`) without PyTorch.

Such a file is a zip: `NAME/data.pkl` describes tensors, `NAME/data/0` and so on are
their elements. TorchScript archives are the same with classes of their own.
Format: https://pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError, first_few, shorten
from clipin_jax.interop.file_arrays import FileArray, FileArrays, Reading
from clipin_jax.interop.torch_pickle import FileObject, Tensor, read_pickle

_STATE_DICTS = ("model", "state_dict")  # where a training script keeps it
_SCRIPT = "__torch__."  # how names of classes in TorchScript begin
_PREFIX = "module."  # of all names, from a model that ran on several GPUs
_HEADER = struct.Struct("<26xHH")  # of a record: lengths of its name and of extras


def open_torch(path: Path) -> FileArrays:
    """Opens a zip that `torch.save` or `torch.jit.save` has written.

    Its arrays are the tensors under `model`, else under `state_dict`, else at the top.
    What else it has is its metadata. A prefix `module.` of all names is removed. Of
    TorchScript, tensors of all modules get dotted names as in its state dict; numbers,
    texts and lists are metadata.

    Raises:
      ClipinError: it is damaged, has no tensors, is big-endian, or wants to
        run something.
    """
    with Reading(str(path)), zipfile.ZipFile(path) as archive:
        records = {info.filename: info for info in archive.infolist()}
        [pickled] = [x for x in records if re.fullmatch(r"[^/]+/data\.pkl", x)] or [""]
        if not pickled:
            raise ClipinError(
                f"{path} is a zip, but not of weights: it has no data.pkl"
            )
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in records:
            _check_byte_order(path, archive.read(f"{root}byteorder"))
        content = read_pickle(str(path), archive.read(pickled))
        tensors, metadata = _split(path, content)
    prefix = _PREFIX if all(name.startswith(_PREFIX) for name in tensors) else ""
    arrays = {}
    for name, tensor in tensors.items():
        with Reading(f"{path}: array {name!r}"):
            record = records[f"{root}data/{tensor.storage.record}"]
            arrays[name.removeprefix(prefix)] = _file_array(path, name, tensor, record)
    return FileArrays(str(path), arrays, metadata)


def _check_byte_order(path: Path, order: bytes) -> None:
    if order != b"little":
        raise ClipinError(
            f"{path} has {order.decode(errors='replace')}-endian numbers: save it "
            "again on a little-endian machine"
        )


def _split(path: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors by name, and the rest."""
    if isinstance(content, FileObject) and content.origin.startswith(_SCRIPT):
        content = dict(_flatten(content, ""))
    if not isinstance(content, dict):
        what = shorten(getattr(content, "origin", type(content).__name__))
        raise ClipinError(
            f"{path} holds a {what} and no state dict: save torch.save(x.state_dict(), "
            "FILE)"
        )
    for key in _STATE_DICTS:
        inner = content.get(key)
        if isinstance(inner, dict) and (tensors := _tensors(inner)):
            outside = {str(name): x for name, x in content.items() if name != key}
            return tensors, _others(inner) | outside
    if tensors := _tensors(content):
        return tensors, _others(content)
    keys = first_few(list(content)) or "nothing"
    raise ClipinError(
        f"{path} has no tensors under {' or '.join(_STATE_DICTS)} or at its top, where "
        f"it has {keys}: save the state dict alone"
    )


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): x for name, x in content.items() if isinstance(x, Tensor)}


def _others(content: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): x for name, x in content.items() if not isinstance(x, Tensor)}


def _flatten(module: FileObject, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields what a module and the modules inside hold, by dotted name."""
    for name, value in module.attributes.items():
        if isinstance(value, FileObject):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor | int | float | str | list):
            yield f"{prefix}{name}", value


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a tensor is in the file; `offset`, `span` and `strides` in bytes."""

    path: Path
    record: zipfile.ZipInfo
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int  # of the first element in the record
    span: int  # from there to the end of the last element


def _file_array(
    path: Path, name: str, tensor: Tensor, record: zipfile.ZipInfo
) -> FileArray:
    """Returns a tensor as an array of the file; checks that its elements are there."""
    dtype, shape = tensor.storage.dtype, tuple(map(int, tensor.shape))
    offset = int(tensor.offset) * dtype.itemsize
    strides = tuple(int(stride) * dtype.itemsize for stride in tensor.strides)
    steps = zip(shape, strides, strict=True)
    span = sum((n - 1) * stride for n, stride in steps) + dtype.itemsize
    place = _Place(path, record, dtype, shape, strides, offset, span)
    outside = math.prod(shape) and offset + span > record.file_size
    if outside or min(offset, *shape, *strides, 0) < 0:
        raise ClipinError(
            f"{path}: array {name!r} of shape {shape} is not inside its record of "
            f"{record.file_size} bytes: fetch the file again"
        )
    return FileArray(shape, dtype, functools.partial(_read, name, place))


def _read(name: str, place: _Place) -> np.ndarray:
    """Returns a copy of the elements of one tensor."""
    if not math.prod(place.shape):
        return np.zeros(place.shape, place.dtype)
    with Reading(f"{place.path}: array {name!r}"):
        elements = _elements(place).view(place.dtype)
        view = np.lib.stride_tricks.as_strided(elements, place.shape, place.strides)
        return np.array(view, order="C")


def _elements(place: _Place) -> np.ndarray:
    """Returns the bytes from a tensor's first element to its last."""
    if place.record.compress_type != zipfile.ZIP_STORED:  # zipped again by somebody
        with zipfile.ZipFile(place.path) as archive, archive.open(place.record) as file:
            file.seek(place.offset)
            return np.frombuffer(file.read(place.span), np.uint8)
    with open(place.path, "rb") as file:
        file.seek(place.record.header_offset)
        header = file.read(_HEADER.size)
    start = place.record.header_offset + _HEADER.size + sum(_HEADER.unpack(header))
    # A memory map: of a tensor that is not contiguous, only the copy takes memory.
    return np.memmap(place.path, np.uint8, "r", start + place.offset, (place.span,))
