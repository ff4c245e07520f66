"""Tables of text whose rows name an image and its captions, label, or both.

    data.tsv:    filepath    title          data.jsonl:  {"filepath": "9.jpg",
                 9.jpg       a dog                        "title": "a dog"}

The default names of the columns are those of open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.compressed import ENDINGS as PACKED
from clipin_jax.data.compressed import plain_file, plain_name
from clipin_jax.data.formats.columns import Columns, image_path, read_image
from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.image_files import embedded_image
from clipin_jax.data.formats.rows import Rows, open_delimited, open_json_lines
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError, shorten, shorten_path

_DELIMITED, _JSON = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
# In a folder, where a .txt may be a caption.
_ENDINGS = tuple(
    kind + packing for kind in (".csv", ".tsv", *_JSON) for packing in ("", *PACKED)
)
_MOST_PROBED = 20  # first images, one of which must exist


class Table:
    """One record per row, one file after the other.

    Files that end in .csv, .tsv or .txt have a header and rows of cells, split as
    Python's csv module does; .jsonl and .ndjson have one object per line. Local tables
    in gzip, bzip2 or xz are unpacked once to a file beside them. Only the offsets of
    rows are kept in memory. A remote table costs a request for each row: copy it to a
    local disk; its images may stay remote.

    Unusable rows keep their index and are bad records: those with too few or too many
    cells, not in UTF-8, or without a caption. Empty lines are skipped.

    Args:
      files: the tables: a pattern (see `storage.expand`), or several.
      image: the column with the path or URL of the image, or its file in base64.
      captions: the column with the caption; or several, whose names become the kinds of
        the captions. In JSON it may have a list of captions, and "meta.title" is a key
        of an inner object. () makes the caption of the names of the record's classes.
      folder: base of relative paths; "" for the folder of the table. Paths may lead out
        of it: only read tables that you trust.
      separator: of the cells; "" to detect tab, comma, semicolon or bar in the header.
      label: None; the column with the class, as its index or its name; or one column
        per class, with 1 if the image belongs to it and 0 otherwise, as in data sets of
        several diseases.
      classes: names of the classes in label order; () for those that occur, sorted, or
        for the names of several columns. Set them if several tables must agree.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.
      quoted: whether quotes around a cell are not part of it.
      columns: names of all columns of tables without a header; () if they have one.
      ending: added to the names of images, such as ".png" if a table has ids.

    Raises:
      ClipinError: a table is missing, empty or malformed, or has another ending; a
        column is missing; a label is no index, or neither 0 nor 1; or none of the first
        images exists.
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
        columns: Sequence[str] = (),
        label_separator: str = "",
    ):
        _check_layout(separator, columns)
        self._columns = Columns(
            "table", image, captions, label, classes, label_separator
        )
        self._folder, self._ending = folder, ending
        names = (image, *self._columns.texts)
        paths = find_files(files, "table.files", _ENDINGS)
        layout = dict(separator=separator, quoted=quoted, header=tuple(columns))
        self._files = [_open(path, names, layout) for path in paths]
        self._parents = {
            rows.path: storage.parent(path)
            for rows, path in zip(self._files, paths, strict=True)
        }
        self._records = Concatenation([len(rows) for rows in self._files])
        self._columns.check_labels({rows.path: rows.values() for rows in self._files})
        self.classes = self._columns.classes
        self._check_images()
        self.fingerprint = fingerprint(
            "table 1",
            [rows.digest for rows in self._files],
            (image, self._columns.captions, label, self.classes, separator, quoted),
            *filter(None, [ending, label_separator, list(columns)]),
        )

    def _check_images(self) -> None:
        paths = []
        for index in range(min(len(self), _MOST_PROBED)):
            try:
                path = self._image_path(*self._row(index))
            except (BadRecord, OSError):
                continue
            if storage.exists(path) or embedded_image(path) is not None:
                return
            paths.append(shorten(path))
        if paths:
            raise ClipinError(
                f"none of the first {len(paths)} images of {self._files[0].path} "
                f"exists (the first is {paths[0]}, in column {self._columns.image!r}); "
                f"set source.folder, which is {self._folder!r}"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        rows, values = self._row(index)
        annotations = self._columns.annotations(values)
        return {"image": read_image(self._image_path(rows, values), ""), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions, kinds and label of a record without reading its image."""
        return self._columns.annotations(self._row(index)[1])

    def describe(self, index: int) -> str:
        """Returns image, row and table of a record."""
        number, row = self._records.locate(index)
        rows = self._files[number]
        try:
            path = self._image_path(rows, rows[row])
        except (BadRecord, OSError):
            return rows.describe(row)
        return f"{shorten_path(path)} in {rows.describe(row)}"

    def _row(self, index: int) -> tuple[Rows, Mapping[str, Any]]:
        number, row = self._records.locate(index)
        return self._files[number], self._files[number][row]

    def _image_path(self, rows: Rows, values: Mapping[str, Any]) -> str:
        name = values[self._columns.image]
        if not isinstance(name, str) or not name.strip():
            raise BadRecord("no image is named")
        name = name.strip() + self._ending if self._ending else name
        if embedded_image(name) is not None:
            return name
        return image_path(name, self._folder or self._parents[rows.path])


def _check_layout(separator: str, columns: Sequence[str]) -> None:
    """Checks arguments of a table. Raises ClipinError."""
    if separator and (not separator.isascii() or len(separator) != 1):
        raise ClipinError(
            f"table.separator is {separator!r}; it must be one ASCII character"
        )
    if separator in ('"', "\n", "\r"):
        raise ClipinError(f"table.separator is {separator!r}; it cannot separate cells")
    if isinstance(columns, str) or len(set(columns)) < len(columns):
        raise ClipinError(
            f"table.columns is {columns!r}; it must be a list of different names"
        )


def _open(path: str, columns: Sequence[str], layout: dict[str, Any]) -> Rows:
    name = plain_name(path)
    try:
        plain = plain_file(path)
        if name.endswith(_DELIMITED):
            return open_delimited(plain, columns, **layout)
        if name.endswith(_JSON) and layout["header"]:
            raise ClipinError(f"{path} is JSON, which has keys: unset source.columns")
        if name.endswith(_JSON):
            return open_json_lines(plain, columns)
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or error}); set source.files"
        ) from error
    endings = ", ".join((*_DELIMITED, *_JSON))
    raise ClipinError(f"{path} does not end like a table: {endings}")
