"""Files as torch writes them, and some that it would not write; without torch."""

import dataclasses
import io
import pickle
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype("f2"): "HalfStorage",
    np.dtype("f4"): "FloatStorage",
    np.dtype("i8"): "LongStorage",
    np.dtype("?"): "BoolStorage",
}


@dataclasses.dataclass
class Global:
    """A class or function by name."""

    module: str
    name: str


@dataclasses.dataclass
class Call:
    """The result of a call."""

    function: Global
    arguments: tuple


@dataclasses.dataclass
class Instance:
    """An object of a class, with attributes."""

    type: Global
    state: Any


@dataclasses.dataclass(eq=False)
class Storage:
    """Elements that tensors share."""

    elements: np.ndarray
    type: str = ""


class TorchPickler(pickle._Pickler):
    """Writes names, calls and objects of modules that are not there."""

    # Importing dill, as other libraries do, changes how all picklers write types.
    dispatch = {
        **{
            k: f
            for k, f in pickle._Pickler.dispatch.items()
            if f.__module__ == "pickle"
        },
        dict: pickle._Pickler.save_dict,
        type: pickle._Pickler.save_type,
    }

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages: list[Storage] = []

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            self.storages.append(obj)
        key = str(self.storages.index(obj))
        kind = Global("torch", obj.type or STORAGES[obj.elements.dtype])
        return "storage", kind, key, "cpu", obj.elements.size

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Instance):
            self.save(obj.type)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(obj.state)
            self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


def tensor(storage, offset=0, shape=None, strides=None) -> Call:
    """Describes a tensor; of a numpy array, all of it."""
    if isinstance(storage, np.ndarray):
        storage = np.ascontiguousarray(storage).reshape(storage.shape)
        shape = storage.shape
        strides = tuple(step // storage.itemsize for step in storage.strides)
        storage = Storage(storage)
    hooks = Call(Global("collections", "OrderedDict"), ())
    arguments = (storage, offset, shape, strides, False, hooks)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def write_torch(path, content, *, order=b"little", compression=zipfile.ZIP_STORED):
    """Writes a file like that of `torch.save(content, path)`; returns its path."""
    buffer = io.BytesIO()
    pickler = TorchPickler(buffer)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", order)
        for number, storage in enumerate(pickler.storages):
            elements = np.ascontiguousarray(storage.elements).tobytes()
            archive.writestr(f"archive/data/{number}", elements)
    return path
