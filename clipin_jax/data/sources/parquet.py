"""Parquet files with images, or with paths of images, and texts.

A file has groups of rows, and only whole groups can be read. Reading rows in random
order costs a whole group for each row, unless its neighbours are read soon: the groups
that were read last are kept in memory. Set `data.shuffle_block` to the rows of a group,
so that a group is read about once per epoch; or convert the data to ArrayRecord files
with `clipin data convert`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from clipin_jax import storage
from clipin_jax.data.content import HEAD, describe_content
from clipin_jax.data.formats.columns import Columns, check_columns, read_image
from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.nested_values import root_of, value_at
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError, did_you_mean, first_line

_ENDINGS = (".parquet", ".parq")  # in a folder
_THREADS = 16
_TAIL = 1 << 16  # bytes at the end of a file that are read first
_MAGIC = b"PAR1"
_IMAGE, _TEXT, _LABEL = "an image", "text", "a class label"


class _Footer(NamedTuple):
    """The end of a file: the rows of its groups, its Arrow schema, a digest."""

    rows: list[int]
    schema: Any
    digest: str


class Parquet:
    """One record per row, file by file.

    Args:
      files: a pattern (see `storage.expand`), or several.
      image: the column with the image: its encoded bytes, a path or URL, or a struct
        of `bytes` and `path`, as Hugging Face writes.
      captions: the column with a text (also as UTF-8 bytes) or a list of texts; or
        several, whose names become the kinds of the captions. "sentences.raw" is a
        field of a struct, or of each struct in a list; so may be `image` and `label`.
      label: None, or the column with the class, as its index or its name, or a list.
      classes: names of the classes in label order; () for those that occur, sorted. Set
        them if several sources must agree.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.
      folder: base of relative paths; "" for the folder of the file. Paths may lead out
        of it.
      cache_mb: memory for the groups that were read last, in each process. Shuffling in
        blocks mixes the records of eight blocks, so nine groups should fit.

    Raises:
      ClipinError: a file is missing or damaged; a column is missing or has another
        type; or there are no rows.
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
        label_separator: str = "",
    ):
        self._columns = Columns(
            "parquet", image, captions, label, classes, label_separator
        )
        self._folder = folder
        self._paths = find_files(files, "parquet.files", _ENDINGS)
        with ThreadPoolExecutor(_THREADS) as pool:
            footers = list(pool.map(read_footer, self._paths))
        for path, footer in zip(self._paths, footers, strict=True):
            self._check_columns(path, footer.schema)
        groups = [
            (file, group, rows)
            for file, footer in enumerate(footers)
            for group, rows in enumerate(footer.rows)
        ]
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._records = Concatenation(self._groups[:, 2].tolist())
        if not len(self):
            raise ClipinError(f"{self._paths[0]}: no rows; set source.files")
        self._cache = GroupCache(cache_mb << 20)
        self._columns.check_labels({self._paths[0]: self._label_values()})
        self.classes = self._columns.classes
        self.fingerprint = fingerprint(
            "parquet 1",
            [os.path.basename(path) for path in self._paths],
            [footer.digest for footer in footers],
            (image, self._columns.captions, label, self.classes),
            *filter(None, [label_separator]),
        )

    def _check_columns(self, path: str, schema: Any) -> None:
        columns = self._columns
        roots = [root_of(n, schema.names) for n in (columns.image, *columns.texts)]
        check_columns(roots, schema.names, path)
        meanings = [(columns.image, _IMAGE)]
        meanings += [(name, _TEXT) for name in columns.captions]
        meanings += [(name, _LABEL) for name in columns.label_columns]
        for name, meaning in meanings:
            root = root_of(name, schema.names)
            arrow_type = schema.field(root).type
            if name != root:
                arrow_type = _inner_type(arrow_type, name.split(".")[1:], path, name)
            is_image = meaning == _TEXT and name == columns.image
            if is_image or not _fits(arrow_type, meaning):
                hint = _inner_names(arrow_type)
                inner = ", ".join(f"{name}.{field}" for field in hint)
                raise ClipinError(
                    f"{path}: column {name!r} is not {meaning}, but "
                    f"{first_line(arrow_type)}" + f"; name one of {inner}" * bool(inner)
                )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        image = self._columns.image
        value = self._values(index, (image,))[image]
        folder = self._folder or storage.parent(self._locate(index)[0])
        return {"image": read_image(value, folder), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions, kinds and label of a record; reads no column of images."""
        return self._columns.annotations(self._values(index, self._columns.texts))

    def describe(self, index: int) -> str:
        """Returns row, group and file of a record; the first ones are 0."""
        path, group, row = self._locate(index)
        return f"row {row} of row group {group} of {path}"

    def _locate(self, index: int) -> tuple[str, int, int]:
        """Returns file, group and row of a record."""
        number, row = self._records.locate(index)
        file, group, _ = self._groups[number].tolist()
        return self._paths[file], group, row

    def _values(self, index: int, names: tuple[str, ...]) -> dict[str, Any]:
        path, group, row = self._locate(index)
        key = (path, group, names)
        table = self._cache.get(key, lambda: _read_group(path, group, names))
        if row >= table.num_rows:
            raise BadRecord("truncated row group")
        try:
            values = {n: table.column(n)[row].as_py() for n in table.column_names}
            return {name: value_at(values, name) for name in names}
        except UnicodeDecodeError as error:
            raise BadRecord("not UTF-8") from error

    def _label_values(self) -> Iterator[Mapping[str, Any]]:
        """Yields the labels of all groups that can be read, row by row."""
        for file, group, _ in self._groups.tolist():
            try:
                names = self._columns.label_columns
                for row in _read_group(self._paths[file], group, names).to_pylist():
                    yield {name: value_at(row, name) for name in names}
            except (BadRecord, UnicodeDecodeError):
                continue


class GroupCache:
    """Keeps the values that were read last, for all threads of a process.

    If several threads need a value at once, it is read once. A pickled cache is empty.

    Args:
      most: bound on the `nbytes` of all values. The last one is kept in any case.
    """

    def __init__(self, most: int):
        self.__setstate__(most)

    def get(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """Returns the value of a key, and reads it if it is not in the cache.

        An error of `read` is raised; the next call reads again.
        """
        with self._lock:
            future = self._futures.get(key)
            is_new = future is None
            if future is None:
                future = self._futures[key] = Future()
            self._futures.move_to_end(key)
        if is_new:
            try:
                future.set_result(read())
            except BaseException as error:
                with self._lock:
                    del self._futures[key]
                future.set_exception(error)
            else:
                self._make_room()
        return future.result()

    def _make_room(self) -> None:
        with self._lock:
            done = [key for key, future in self._futures.items() if future.done()]
            total = sum(self._futures[key].result().nbytes for key in done)
            for key in done[:-1]:
                if total <= self._most:
                    break
                total -= self._futures.pop(key).result().nbytes

    def __getstate__(self) -> int:
        return self._most

    def __setstate__(self, most: int) -> None:
        self._most = most
        self._futures: OrderedDict[Hashable, Future] = OrderedDict()
        self._lock = threading.Lock()


def read_footer(path: str) -> _Footer:
    """Reads the end of a file. Raises ClipinError."""
    from pyarrow import ArrowException, BufferReader, parquet

    try:
        size = storage.size(path)
        tail = storage.read_range(path, max(0, size - _TAIL), _TAIL)
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != _MAGIC or length > size:
            content = describe_content(storage.read_range(path, 0, HEAD))
            is_cut = content == "a Parquet file" or not content
            kind = "or cut off" if is_cut else f"but {content}"
            raise ClipinError(
                f"{path} is no Parquet file, {kind}; write it again, or leave it out "
                "of source.files"
            )
        if length > len(tail):
            tail = storage.read_range(path, size - length, length)
        metadata = parquet.read_metadata(BufferReader(_MAGIC + tail[-length:]))
        rows = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        schema = metadata.schema.to_arrow_schema()
        if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
            raise ValueError("its row groups do not add up to its number of rows")
    except (ArrowException, OSError, ValueError) as error:
        raise ClipinError(
            f"{path} cannot be read: {first_line(error)}; write it again, or leave it "
            "out of source.files"
        ) from error
    return _Footer(rows, schema, fingerprint(size, tail[-length:]))


def _read_group(path: str, group: int, names: tuple[str, ...]) -> Any:
    """Reads some columns of a group as an Arrow table. Raises BadRecord, OSError.

    Of a name with dots, the whole outer column is read.
    """
    from pyarrow import ArrowException, parquet

    try:
        with _open(path) as file:
            reader = parquet.ParquetFile(
                file, pre_buffer=True, page_checksum_verification=True
            )
            present = reader.schema_arrow.names
            roots = list(dict.fromkeys(root_of(name, present) for name in names))
            # The pipeline has its own threads.
            return reader.read_row_group(group, columns=roots, use_threads=False)
    except OSError as error:
        # Arrow raises its errors as OSError without a number.
        if error.errno is None and not storage.is_remote(path):
            raise BadRecord(f"damaged row group: {first_line(error)}") from error
        raise
    except (ArrowException, ValueError) as error:
        raise BadRecord(f"damaged row group: {first_line(error)}") from error


def _open(path: str) -> contextlib.AbstractContextManager[Any]:
    if not storage.is_remote(path):
        from pyarrow import OSFile

        return OSFile(path)
    from fsspec.core import url_to_fs

    store, name = url_to_fs(path)
    return store.open(name, "rb")


def _inner_type(arrow_type: Any, keys: Sequence[str], path: str, name: str) -> Any:
    """Returns the type of an inner field. Raises ClipinError if there is none."""
    for key in keys:
        known = _inner_names(arrow_type)
        if key not in known:
            raise ClipinError(
                f"{path} has no column {name!r}: {did_you_mean(key, known)}"
            )
        arrow_type = _item_type(arrow_type)
        arrow_type = arrow_type.field(arrow_type.get_field_index(key)).type
    return arrow_type


def _inner_names(arrow_type: Any) -> list[str]:
    """Returns the fields of a struct, or of a list of structs; else none."""
    from pyarrow import types

    arrow_type = _item_type(arrow_type)
    if not types.is_struct(arrow_type):
        return []
    return [arrow_type.field(n).name for n in range(arrow_type.num_fields)]


def _item_type(arrow_type: Any) -> Any:
    """Returns the type of the items of a list; any other type unchanged."""
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    is_list = any(check(arrow_type) for check in lists)
    return _item_type(arrow_type.value_type) if is_list else arrow_type


def _fits(arrow_type: Any, meaning: str) -> bool:
    """Tells whether a column of this type can have that meaning."""
    from pyarrow import types

    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    text = str(arrow_type) in ("string", "large_string", "string_view")
    binary = str(arrow_type) in ("binary", "large_binary", "binary_view")
    if meaning == _IMAGE:
        if types.is_struct(arrow_type):
            return bool({"bytes", "path"} & set(_inner_names(arrow_type)))
        return text or binary or types.is_fixed_size_binary(arrow_type)
    item_type = _item_type(arrow_type)
    if item_type is not arrow_type:
        return _fits(item_type, meaning)
    if meaning == _LABEL:
        return text or types.is_integer(arrow_type) or types.is_floating(arrow_type)
    return text or binary
