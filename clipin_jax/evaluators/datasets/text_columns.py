"""Columns of text files: sentences, labels, human scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from clipin_jax import storage
from clipin_jax.errors import ClipinError, did_you_mean


def read_columns(pattern: str, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Reads the cells of some columns, row by row, below a header; UTF-8.

    Args:
      pattern: a file, or a pattern of several (see `storage.expand`). Files that end in
        .tsv have tabs and no quotes; others have commas, and cells may be quoted.
      columns: names in the header.

    Raises:
      ClipinError: a file that is missing, empty or damaged, or a column or a cell that
        is missing.
    """
    paths = storage.expand(pattern)
    rows = [row for path in paths for row in _rows(path, columns)]
    if not rows:
        raise ClipinError(f"{paths[0]} has a header, but no rows")
    return rows


def read_text(path: str) -> str:
    """Reads a text file.

    Raises:
      ClipinError: it is missing, empty or not UTF-8.
    """
    try:
        text = storage.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClipinError(f"{path} is not UTF-8: {error.reason}") from error
    except OSError as error:
        raise ClipinError(f"cannot read {path}: {error.strerror or error}") from error
    if not text.strip():
        raise ClipinError(f"{path} is empty")
    return text


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    has_tabs = path.lower().endswith(".tsv")
    reader = csv.reader(
        io.StringIO(read_text(path), newline=""),
        delimiter="\t" if has_tabs else ",",
        quoting=csv.QUOTE_NONE if has_tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        header = next(reader)
        indices = [_find_column(name, header, path) for name in columns]
        for row in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(header):
                raise ClipinError(
                    f"{where}: {len(row)} cells, the header has {len(header)}"
                )
            cells = tuple(row[index].strip() for index in indices)
            if "" in cells:
                raise ClipinError(f"{where}: its {columns[cells.index('')]!r} is empty")
            yield cells
    except csv.Error as error:
        raise ClipinError(f"{path}, line {reader.line_num}: {error}") from error


def _find_column(name: str, header: Sequence[str], path: str) -> int:
    if name not in header:
        raise ClipinError(
            f"{path} has no column {name!r}: {did_you_mean(name, header)}; set"
            " `columns`"
        )
    return header.index(name)
