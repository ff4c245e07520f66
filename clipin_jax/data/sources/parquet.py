"""Parquet files with pictures, or with paths of pictures, and texts.

A file is rows in groups, and a group is the least that can be read. So reading rows in
any order costs a whole group for each, unless its neighbours are wanted soon: the last
few groups are kept. Set `data.shuffle_block` to the rows of a group and a group is read
about once an epoch, or let `clipin data convert` make ArrayRecord files of the data.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from clipin_jax.data import storage
from clipin_jax.data.formats.columns import (
    Columns,
    check_columns,
    expand_all,
    folder_of,
    one_line,
    read_image,
)
from clipin_jax.data.formats.group_cache import GroupCache
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError

_THREADS = 16
_TAIL = 1 << 16  # bytes at the end that are read first
_MAGIC = b"PAR1"
_PICTURE, _TEXT, _LABEL = "a picture", "text", "a class label"


class _Footer(NamedTuple):
    """What the end of a file says: its groups' rows, its columns, a digest."""

    rows: list[int]
    schema: Any
    digest: str


class Parquet:
    """One record per row, file by file.

    Args:
      files: a pattern (see `storage.expand`), or several.
      image: the column with the picture: its encoded bytes, a path or URL, or a struct
        of `bytes` and `path`, as Hugging Face writes.
      captions: the column with a text or a list of texts; or several, which are then
        the kinds of the captions.
      label: None, or the column with the class, as its index or its name, or a list.
      classes: names of the classes in label order; (): those that occur, sorted. Set
        them where several sources must agree.
      folder: what paths are relative to; "": the folder of the file. They may lead out
        of it.
      cache_mb: of memory for groups that were read last, in each process. Shuffling in
        blocks mixes the records of eight, so there should be room for nine groups.

    Raises:
      ClipinError: a file is missing or damaged, lacks a column or has another type in
        it, there are no rows.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        image: str = "image",
        captions: str | Sequence[str] = "caption",
        label: str | None = None,
        classes: Sequence[str] = (),
        folder: str = "",
        cache_mb: int = 512,
    ):
        self._columns = Columns("parquet", image, captions, label, classes)
        self._folder = folder
        self._paths = expand_all("parquet", files)
        with ThreadPoolExecutor(_THREADS) as pool:
            footers = list(pool.map(_footer, self._paths))
        for path, footer in zip(self._paths, footers, strict=True):
            self._check_columns(path, footer.schema)
        groups = [
            (file, group, rows)
            for file, footer in enumerate(footers)
            for group, rows in enumerate(footer.rows)
        ]
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._ends = np.cumsum(self._groups[:, 2])
        if not len(self):
            raise ClipinError(f"{self._paths[0]}: no rows; set source.files")
        self._cache = GroupCache(cache_mb << 20)
        self._columns.find_classes(self._labels())
        self.classes = self._columns.classes
        self.fingerprint = fingerprint(
            "parquet 1",
            [os.path.basename(path) for path in self._paths],
            [footer.digest for footer in footers],
            (image, self._columns.captions, label, self.classes),
        )

    def _check_columns(self, path: str, schema: Any) -> None:
        columns = self._columns
        check_columns((columns.image, *columns.texts), schema.names, path)
        meanings = [(columns.image, _PICTURE)]
        meanings += [(name, _TEXT) for name in columns.captions]
        if columns.label:
            meanings.append((columns.label, _LABEL))
        for name, meaning in meanings:
            kind = schema.field(name).type
            if not _fits(kind, meaning):
                raise ClipinError(
                    f"{path}: column {name!r} is not {meaning}, but {one_line(kind)}"
                )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        image = self._columns.image
        value = self._values(index, (image,))[image]
        folder = self._folder or folder_of(self._place(index)[0])
        return {"image": read_image(value, folder), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions, kinds and label of a record; of pictures nothing is read."""
        return self._columns.annotations(self._values(index, self._columns.texts))

    def describe(self, index: int) -> str:
        """Row, group and file of a record; the first ones are 0."""
        path, group, row = self._place(index)
        return f"row {row} of row group {group} of {path}"

    def _place(self, index: int) -> tuple[str, int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        file, group, rows = self._groups[number].tolist()
        return self._paths[file], group, index - int(self._ends[number]) + rows

    def _values(self, index: int, names: tuple[str, ...]) -> dict[str, Any]:
        path, group, row = self._place(index)
        key = (path, group, names)
        table = self._cache.get(key, lambda: _read_group(path, group, names))
        if row >= table.num_rows:
            raise BadRecord("truncated row group")
        try:
            return {name: table.column(name)[row].as_py() for name in names}
        except UnicodeDecodeError as error:
            raise BadRecord("not UTF-8") from error

    def _labels(self) -> Iterator[Any]:
        """All labels, or most of those that there are of each kind."""
        label = self._columns.label
        for file, group, _ in self._groups.tolist():
            try:
                table = _read_group(self._paths[file], group, (str(label),))
                yield from table.column(0).to_pylist()
            except (BadRecord, UnicodeDecodeError):
                continue


def _footer(path: str) -> _Footer:
    """Reads the end of a file. Raises ClipinError."""
    from pyarrow import ArrowException, BufferReader, parquet

    try:
        size = storage.size(path)
        tail = storage.read_range(path, max(0, size - _TAIL), _TAIL)
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != _MAGIC or length > size:
            raise ClipinError(
                f"{path} is no Parquet file, or cut off; write it again, or leave it "
                "out of source.files"
            )
        if length > len(tail):
            tail = storage.read_range(path, size - length, length)
        found = parquet.read_metadata(BufferReader(_MAGIC + tail[-length:]))
        rows = [found.row_group(n).num_rows for n in range(found.num_row_groups)]
        schema = found.schema.to_arrow_schema()
        if min(rows, default=0) < 0 or sum(rows) != found.num_rows:
            raise ValueError("its row groups are not the rows that it should have")
    except (ArrowException, OSError, ValueError) as error:
        raise ClipinError(
            f"{path} cannot be read: {one_line(error)}; write it again, or leave it "
            "out of source.files"
        ) from error
    return _Footer(rows, schema, fingerprint(size, tail[-length:]))


def _read_group(path: str, group: int, names: tuple[str, ...]) -> Any:
    """Some columns of a group. Raises BadRecord, OSError."""
    from pyarrow import ArrowException, parquet

    try:
        with _open(path) as file:
            reader = parquet.ParquetFile(
                file, pre_buffer=True, page_checksum_verification=True
            )
            # The pipeline has threads of its own.
            return reader.read_row_group(group, columns=list(names), use_threads=False)
    except OSError as error:
        if error.errno is None and not storage.is_remote(path):  # Arrow's own
            raise BadRecord(f"damaged row group: {one_line(error)}") from error
        raise
    except (ArrowException, ValueError) as error:
        raise BadRecord(f"damaged row group: {one_line(error)}") from error


def _open(path: str) -> contextlib.AbstractContextManager[Any]:
    if not storage.is_remote(path):
        from pyarrow import OSFile

        return OSFile(path)
    from fsspec.core import url_to_fs

    store, name = url_to_fs(path)
    return store.open(name, "rb")


def _fits(kind: Any, meaning: str) -> bool:
    """Whether a type of Arrow is what a column means."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    text = str(kind) in ("string", "large_string", "string_view")
    binary = str(kind) in ("binary", "large_binary", "binary_view")
    if meaning == _PICTURE:
        if types.is_struct(kind):
            fields = {kind.field(n).name for n in range(kind.num_fields)}
            return bool(fields & {"bytes", "path"})
        return text or binary or types.is_fixed_size_binary(kind)
    listed = types.is_list(kind) or types.is_large_list(kind)
    if listed or types.is_fixed_size_list(kind):
        return _fits(kind.value_type, meaning)
    if meaning == _LABEL:
        return text or types.is_integer(kind) or types.is_floating(kind)
    return text
