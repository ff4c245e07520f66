"""Reads and writes safetensors: one file, or shards with an index.

The format is described at https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from clipin_jax import storage
from clipin_jax.errors import ClipinError, first_line
from clipin_jax.interop.file_arrays import (
    INDEX_SUFFIX,
    FileArray,
    FileArrays,
    Reading,
)

Pairs = Iterable[tuple[str, np.ndarray]]
"""Names and arrays, which may be made one by one."""

_DTYPES: Mapping[str, np.dtype] = {
    code: np.dtype(dtype)
    for code, dtype in {
        "BOOL": bool,
        "BF16": ml_dtypes.bfloat16,
        "C64": np.complex64,
        **{f"F{bits}": f"f{bits // 8}" for bits in (16, 32, 64)},
        **{f"I{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
        **{f"U{bits}": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    }.items()
}


def open_safetensors(path: Path) -> FileArrays:
    """Opens one safetensors file; reads its header alone.

    Raises:
      ClipinError: it cannot be read, is damaged or has arrays of an unknown type.
    """
    with Reading(str(path)):
        # Pages of a memory map would count as memory of this process.
        file = safe_open(path, framework="numpy", backend="pread")
        arrays = {name: _file_array(path, file, name) for name in file.offset_keys()}
        return FileArrays(str(path), arrays, file.metadata() or {})


def _file_array(path: Path, file: Any, name: str) -> FileArray:
    header = file.get_slice(name)
    code = header.get_dtype()
    if code not in _DTYPES:
        raise ClipinError(
            f"{path}: array {name!r} is of type {code}, which cannot be read: "
            "convert it to BF16 or F32"
        )
    read = functools.partial(_read, path, file, name)
    return FileArray(tuple(header.get_shape()), _DTYPES[code], read)


def _read(path: Path, file: Any, name: str) -> np.ndarray:
    with Reading(f"{path}: array {name!r}"):
        return file.get_tensor(name)


def write_safetensors(
    path: str | Path,
    arrays: Mapping[str, np.ndarray] | Pairs,
    metadata: Mapping[str, str] | None = None,
    *,
    shard_bytes: int = 5_000_000_000,
) -> list[Path]:
    """Writes arrays to a safetensors file, or to shards with an index.

    Files get their names once all are complete. At most one shard is held in memory.

    Args:
      path: of the file, `.../model.safetensors`. Shards are beside it as
        `model-00001-of-00002.safetensors`, with `model.safetensors.index.json`.
      arrays: by name; pairs may be made one by one.
      metadata: texts by name, such as `{"format": "pt"}`.
      shard_bytes: size from which another shard is begun.

    Returns:
      The files; with shards, the index is the last.

    Raises:
      ClipinError: a file cannot be written, a name occurs twice, an array has a dtype
        that the format lacks, or there are other files of the same model.
    """
    path = storage.local_path(path)
    pairs = cast(Pairs, arrays.items() if isinstance(arrays, Mapping) else arrays)
    shards: list[list[str]] = []  # names of the arrays of each
    sizes = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for shard in _split(path, pairs, shard_bytes):
            shards.append(list(shard))
            sizes += sum(array.nbytes for array in shard.values())
            save_file(shard, _temporary(path, len(shards)), dict(metadata or {}))
        return _name_files(path, shards, sizes)
    except (SafetensorError, OSError) as error:
        raise ClipinError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        for number in range(1, len(shards) + 1):
            _temporary(path, number).unlink(missing_ok=True)


def _split(
    path: Path, pairs: Pairs, shard_bytes: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays of each shard: one at least, more up to `shard_bytes`."""
    shard: dict[str, np.ndarray] = {}
    size, names = 0, set()
    for name, array in pairs:
        array = np.asarray(array, order="C")
        if array.dtype.newbyteorder("=") not in _DTYPES.values():
            raise ClipinError(f"cannot write {name!r} of {array.dtype} to {path}")
        if name in names or name == "__metadata__":
            raise ClipinError(f"cannot write {name!r} to {path}: the name is taken")
        if shard and size + array.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = array
        size += array.nbytes
        names.add(name)
    yield shard


def _temporary(path: Path, number: int) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{number}.tmp")


def _name_files(path: Path, shards: list[list[str]], size: int) -> list[Path]:
    """Gives complete files their names, and writes the index of several.

    Only a single file takes the place of a single file: shards of two copies would mix.
    """
    index = path.with_name(path.name + INDEX_SUFFIX)
    parts = sorted(path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"))
    whole = [path] if len(shards) > 1 and path.exists() else []
    if others := [*whole, *parts, *([index] if index.exists() else [])]:
        raise ClipinError(
            f"{others[0]} is of an earlier copy: remove it or write elsewhere"
        )
    if len(shards) == 1:
        _temporary(path, 1).replace(path)
        return [path]
    names = [
        f"{path.stem}-{number:05}-of-{len(shards):05}{path.suffix}"
        for number in range(1, len(shards) + 1)
    ]
    for number, name in enumerate(names, start=1):
        _temporary(path, number).replace(path.with_name(name))
    places = zip(names, shards, strict=True)
    content = {
        "metadata": {"total_size": size},
        "weight_map": {array: name for name, shard in places for array in shard},
    }
    storage.write(str(index), json.dumps(content, indent=2).encode())
    return [*(path.with_name(name) for name in names), index]
