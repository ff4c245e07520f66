"""Opens `.npz` files of numpy, such as those of big_vision, array by array."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.interop.file_arrays import FileArray, FileArrays, Reading

_SUFFIX = ".npy"
_BFLOAT16 = np.dtype("V2")  # how numpy saves it, without its name


def is_npz(path: Path) -> bool:
    """Tells whether a zip has arrays of numpy. Raises ClipinError if it is damaged."""
    with Reading(str(path)), zipfile.ZipFile(path) as archive:
        return any(name.endswith(_SUFFIX) for name in archive.namelist())


def open_npz(path: Path) -> FileArrays:
    """Opens a zip of `.npy` members; reads their headers.

    Names are those of the members, such as `params/img/embedding/kernel`. Elements of
    two bytes without a type are bfloat16, which numpy does not name.

    Raises:
      ClipinError: it is damaged, or an array is of Python objects, which are not read.
    """
    arrays = {}
    with Reading(str(path)), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(_SUFFIX):
                name = member.removesuffix(_SUFFIX)
                with archive.open(member) as file:
                    arrays[name] = _file_array(path, name, file)
    return FileArrays(str(path), arrays, {})


def _file_array(path: Path, name: str, file: IO[bytes]) -> FileArray:
    """Reads the header of a member."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ClipinError(
            f"{path}: array {name!r} is of Python objects, which may run code and are "
            "not read: save it as numbers"
        )
    dtype = np.dtype(ml_dtypes.bfloat16) if dtype == _BFLOAT16 else dtype
    return FileArray(shape, dtype, functools.partial(_read, path, name, dtype))


def _read(path: Path, name: str, dtype: np.dtype) -> np.ndarray:
    with (
        Reading(f"{path}: array {name!r}"),
        zipfile.ZipFile(path) as archive,
        archive.open(name + _SUFFIX) as file,
    ):
        return np.lib.format.read_array(file, allow_pickle=False).view(dtype)
