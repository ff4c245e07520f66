"""Reads the pickle inside a file of PyTorch; nothing that it names is run or imported.

A pickle is a program: it names globals and calls them. Here every name leads to a class
or function of this file, none of which does more than keep what it is given.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from clipin_jax.errors import ClipinError, shorten
from clipin_jax.interop.file_arrays import Reading

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}


@dataclasses.dataclass
class _StorageType:
    """What the elements of a storage are."""

    dtype: np.dtype


@dataclasses.dataclass
class Storage:
    """A record of the file: its name below `data/`, and what its elements are."""

    record: str
    dtype: np.dtype


@dataclasses.dataclass
class Tensor:
    """Where the elements of a tensor are in a storage; all counts are of elements.

    Whoever reads them must check the values: they are those of the file.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Uncallable(type):
    """The type of classes of a file. Making an instance without a call is allowed."""

    refusal: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise ClipinError(cls.refusal)

    def __repr__(cls) -> str:
        return f"<{getattr(cls, 'origin', '')}>"


class FileObject(metaclass=_Uncallable):
    """An object of a class that the file names: attributes, without any behaviour.

    Attributes:
      origin: the full name of the class.
      attributes: by name; empty if the class has its own way to save them.
    """

    origin: str = ""
    attributes: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> FileObject:
        """Makes an object without attributes; arguments are of no use."""
        self = super().__new__(cls)
        self.attributes = {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignores an item, of a class that is a kind of dict."""

    def append(self, value: Any) -> None:
        """Ignores an item, of a class that is a kind of list."""

    def __repr__(self) -> str:
        return f"<{self.origin}>"


class _Dict(dict):
    """An ordered dict; the versions of modules that torch attaches are left out."""

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return Tensor(storage, offset, shape, strides)


def _first(value: Any, *_: Any) -> Any:
    """Returns what a function of torch would wrap."""
    return value


def _path(*parts: Any) -> str:
    """Returns a path, such as that of a run beside the weights, as a text."""
    return "/".join(map(str, parts))


def _scalar(*_: Any) -> None:
    """Stands for a numpy scalar, such as a score beside the weights."""


class _NumpyType:
    """Stands for a numpy dtype."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch.Size": _first,
    "torch.device": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "collections.OrderedDict": _Dict,
    "collections.Counter": _Dict,
    "collections.defaultdict": lambda *_: _Dict(),
    "pathlib.PosixPath": _path,
    "pathlib._local.PosixPath": _path,
    "builtins.set": set,
    "__builtin__.set": set,
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _first,
}


class _Unpickler(pickle.Unpickler):
    """Reads a pickle with the classes and functions of this file alone."""

    def __init__(self, path: str, content: bytes):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        # A pickle may set attributes of what it is given: give it new objects.
        if module == "torch" and name in _STORAGES:
            return _StorageType(np.dtype(_STORAGES[name]))
        if full in _CALLS:
            return functools.partial(_CALLS[full])
        refusal = (
            f"{self._path} wants to call {shorten(full)}: refused, nothing was run. "
            "Save the state dict alone, torch.save(model.state_dict(), FILE)"
        )
        return _Uncallable(
            "FileClass", (FileObject,), {"origin": full, "refusal": refusal}
        )

    def persistent_load(self, pid: Any) -> Storage:
        kind, elements, record = pid[:3]
        if kind != "storage" or not isinstance(elements, _StorageType):
            what = getattr(elements, "origin", kind)
            raise ClipinError(
                f"{self._path} has elements of type {shorten(str(what))}, which cannot "
                "be read: convert them to float32"
            )
        return Storage(str(record), elements.dtype)


def read_pickle(path: str, content: bytes) -> Any:
    """Returns what a pickle holds; tensors as `Tensor`, unknown objects inert.

    Args:
      path: of the file, for messages.
      content: the pickle.

    Raises:
      ClipinError: it is damaged, or calls a function that is not in the table above.
    """
    with Reading(path):
        return _Unpickler(path, content).load()
