"""Tables of text whose rows name a picture and say something about it.

    data.tsv:    filepath    title          data.jsonl:  {"filepath": "9.jpg",
                 9.jpg       a dog                        "title": "a dog"}

As open_clip takes them, with its names of columns, but whatever the separator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.data import storage
from clipin_jax.data.formats.columns import (
    expand_all,
    folder_of,
    image_path,
    read_image,
)
from clipin_jax.data.formats.label_columns import LabelColumns
from clipin_jax.data.formats.rows import DelimitedRows, JsonRows, Rows
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError

_DELIMITED, _JSON = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
_LOOKED_FOR = 20  # pictures of which at least one must exist


class Table:
    """One record per row, one file after the other.

    Files that end in .csv, .tsv or .txt are a header and rows of cells, split as
    Python's csv module does; .jsonl and .ndjson are one object a line. Only where each
    row begins is kept in memory. A remote table costs a request for each row: copy it
    to a local disk; its pictures may stay where they are.

    Rows of no use keep their place and are bad records: those with too few or too many
    cells, not in UTF-8, without a caption. Empty lines are no rows.

    Args:
      files: the tables: a pattern (see `storage.expand`), or several.
      image: the column with the path or URL of the picture.
      captions: the column with the caption; or several, which are then the kinds of the
        captions. In JSON a list of captions may stand there, and a key inside another
        is "meta.title". (): a record's caption is the names of its classes.
      folder: what paths are relative to; "": the folder of the table. They may lead out
        of it: a table is trusted to name what should be read.
      separator: of the cells; "": tab, comma, semicolon or bar, by the header.
      label: None, or the column with the class, as its index or its name; or several
        columns, one for each class, with 1 in those that the picture belongs to and 0
        in the others, as data sets of several diseases have.
      classes: names of the classes in label order; (): those that occur, sorted, or the
        names of the several columns. Set them where several tables must agree.
      quoted: whether quotes around a cell are not part of it.
      ending: what to add to the names of pictures, as ".png" where a table has ids.

    Raises:
      ClipinError: a table is missing, of another ending, empty or malformed, or lacks a
        column; a label that is no index, or neither 0 nor 1; none of the first pictures
        exists.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        image: str = "filepath",
        captions: str | Sequence[str] = "title",
        folder: str = "",
        separator: str = "",
        label: str | Sequence[str] | None = None,
        classes: Sequence[str] = (),
        quoted: bool = True,
        ending: str = "",
    ):
        if separator and (not separator.isascii() or len(separator) != 1):
            raise ClipinError(f"table.separator is {separator!r}; it must be one sign")
        if separator in ('"', "\n", "\r"):
            raise ClipinError(
                f"table.separator is {separator!r}; it separates no cells"
            )
        self._columns = LabelColumns("table", image, captions, label, classes)
        self._folder, self._ending = folder, ending
        wanted = (image, *self._columns.texts)
        self._tables = [
            _open(path, wanted, separator, quoted)
            for path in expand_all("table", files)
        ]
        self._ends = np.cumsum([len(table) for table in self._tables])
        self._columns.read_classes(self._tables)
        self.classes = self._columns.classes
        self._check_pictures()
        self.fingerprint = fingerprint(
            "table 1",
            [table.digest for table in self._tables],
            (image, self._columns.captions, label, self.classes, separator, quoted),
            *([ending] if ending else []),
        )

    def _check_pictures(self) -> None:
        paths = []
        for index in range(min(len(self), _LOOKED_FOR)):
            try:
                path = self._path(*self._row(index))
            except (BadRecord, OSError):
                continue
            if storage.exists(path):
                return
            paths.append(path)
        if paths:
            raise ClipinError(
                f"none of the first {len(paths)} pictures of {self._tables[0].path} "
                f"exists (the first is {paths[0]}, in column {self._columns.image!r}); "
                f"set source.folder, which is {self._folder!r}"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        table, values = self._row(index)
        annotations = self._columns.annotations(values)
        return {"image": read_image(self._path(table, values), ""), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions, kinds and label of a record, without reading its picture."""
        return self._columns.annotations(self._row(index)[1])

    def describe(self, index: int) -> str:
        """Row and table of a record, and its picture."""
        table, row = self._place(index)
        try:
            path = self._path(table, table[row])
        except (BadRecord, OSError):
            return table.describe(row)
        return f"{path} in {table.describe(row)}"

    def _place(self, index: int) -> tuple[Rows, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        table = self._tables[number]
        return table, index - int(self._ends[number]) + len(table)

    def _row(self, index: int) -> tuple[Rows, Mapping[str, Any]]:
        table, row = self._place(index)
        return table, table[row]

    def _path(self, table: Rows, values: Mapping[str, Any]) -> str:
        name = values[self._columns.image]
        if not isinstance(name, str) or not name.strip():
            raise BadRecord("no picture is named")
        name = name.strip() + self._ending if self._ending else name
        return image_path(name, self._folder or folder_of(table.path))


def _open(path: str, wanted: Sequence[str], separator: str, quoted: bool) -> Rows:
    name = path.lower()
    try:
        if name.endswith(_DELIMITED):
            return DelimitedRows(path, wanted, separator, quoted)
        if name.endswith(_JSON):
            return JsonRows(path, wanted)
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or error}); set source.files"
        ) from error
    endings = ", ".join((*_DELIMITED, *_JSON))
    raise ClipinError(f"{path} is no table that is known by its ending: {endings}")
