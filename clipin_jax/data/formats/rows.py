"""Rows of text files by index: delimited cells, or one JSON object per line.

A first pass finds the offset of each row and keeps it in memory, eight bytes per row.
The row itself is read on demand.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from clipin_jax import storage
from clipin_jax.data.content import HEAD, check_content
from clipin_jax.data.formats.cells import row_ends, split_cells
from clipin_jax.data.formats.columns import check_columns
from clipin_jax.data.formats.nested_values import value_at
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
_BLOCK = 1 << 24  # bytes scanned at once
_LONGEST_ROW = 1 << 24  # bytes; one quote that is never closed joins all rows
_HEADER = 1 << 16  # bytes in which the header must end
_MOST_PROBED = 1000  # first JSON objects, one of which must have a key
_ROWS_AT_ONCE = 4096  # rows read at once when all are read
_BOM = b"\xef\xbb\xbf"
_UNQUOTED_HINT = "set source.quoted=False if quotes are plain characters there"
_NEWLINE, _RETURN = b"\n\r"
_log = logging.getLogger(__name__)


class RowFormat(Protocol):
    """Splits and parses the rows of a file."""

    unended: str  # what is missing in a row that does not end, for messages

    def ends(self, data: bytes) -> np.ndarray:
        """Returns the offset after each row, [n] int; data begins with a row."""
        ...

    def parse(self, text: bytes) -> Mapping[str, Any]:
        """Returns the values of a row by column. Raises BadRecord."""
        ...


class Rows:
    """The rows of a file, by index. Empty lines are skipped.

    Args:
      path: of the file.
      row_format: splits and parses it.
      header: whether the first row is a header, which has no index.

    Attributes:
      path: of the file.
      digest: SHA-256 of its content.
      inner_breaks: number of line breaks inside rows.

    Raises:
      ClipinError: a row that does not end.
      OSError: the file cannot be read.
    """

    def __init__(self, path: str, row_format: RowFormat, header: bool = False):
        self.path, self._format, self.inner_breaks = path, row_format, 0
        size, digest = storage.size(path), hashlib.sha256()
        begin = len(_BOM) if storage.read_range(path, 0, len(_BOM)) == _BOM else 0
        starts, rest = [], b""
        for at in range(begin, size, _BLOCK):
            block = storage.read_range(path, at, _BLOCK)
            digest.update(block)
            first, data = at - len(rest), rest + block
            is_last = at + _BLOCK >= size
            if is_last:
                data += b"\n"  # ends the last row, or is an empty row
            ends = row_format.ends(data)
            done = int(ends[-1]) if len(ends) else 0
            rest = data[done:]
            if len(rest) > _LONGEST_ROW or is_last and rest:
                raise ClipinError(
                    f"{path}: the row at byte {first + done} has no "
                    f"{row_format.unended}"
                )
            breaks, offsets = _nonempty_rows(data, ends)
            starts.append(first + offsets)
            self.inner_breaks += breaks
        self._starts = np.concatenate([*starts, [size]]).astype(np.int64)[int(header) :]
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        """Returns the values of a row by column. Raises BadRecord, OSError."""
        return self._format.parse(self.text(row))

    def text(self, row: int) -> bytes:
        """Returns the bytes of a row. Raises BadRecord, OSError."""
        start, end = self._starts[row : row + 2].tolist()
        text = storage.read_range(self.path, start, end - start)
        if len(text) < end - start:
            raise BadRecord("truncated: the file is shorter than it was")
        return text.strip(b"\r\n")

    def describe(self, row: int) -> str:
        """Returns the position of a row for messages; rows count from 1."""
        return f"row {row + 1}, at byte {self._starts[row]}, of {self.path}"

    def values(self) -> Iterator[Mapping[str, Any]]:
        """Yields the values of all rows that can be parsed. Raises OSError."""
        for first in range(0, len(self), _ROWS_AT_ONCE):
            starts = self._starts[first : first + _ROWS_AT_ONCE + 1]
            offsets = (starts - starts[0]).tolist()
            text = storage.read_range(self.path, int(starts[0]), offsets[-1])
            for start, end in zip(offsets, offsets[1:], strict=False):
                try:
                    yield self._format.parse(text[start:end].strip(b"\r\n"))
                except BadRecord:
                    continue


def open_delimited(
    path: str,
    columns: Sequence[str],
    *,
    separator: str = "",
    quoted: bool = True,
    header: Sequence[str] = (),
) -> Rows:
    """Opens rows of cells below a header.

    Args:
      path: of the file.
      columns: the columns that it must have.
      separator: one ASCII character, or "" to detect it in the first row.
      quoted: whether cells may be in quotes.
      header: names of all columns if the first row does not have them.

    Raises:
      ClipinError: the file has no header, no rows, a missing or repeated column, or a
        quote that is never closed.
      OSError: it cannot be read.
    """
    start = storage.read_range(path, 0, _HEADER).removeprefix(_BOM).lstrip(b"\r\n")
    if not start:
        raise ClipinError(f"{path} is empty; set source.files")
    check_content(start, path, "table", "source.files")
    first = _read_first(
        start, columns, separator, quoted=quoted, header=header, path=path
    )
    mark_name = _SEPARATORS.get(first.separator, repr(first.separator))
    remark = f", separated by {mark_name}" + " (detected)" * (not separator)
    names = _names(first.cells, header, path, remark)
    hint = "" if header else "; if its first row is no header, set source.columns"
    check_columns(columns, names, path, remark + hint)
    repeated = [name for name in columns if names.count(name) > 1]
    if repeated:
        raise ClipinError(f"{path}: column {repeated[0]!r} comes twice{remark}")
    row_format = _Delimited(names, first.separator, quoted, first.spaced)
    rows = Rows(path, row_format, header=first.cells == names)
    if not len(rows):
        raise ClipinError(f"{path} has a header, but no rows")
    if rows.inner_breaks > 0:
        message = "%s: %d line breaks inside cells in quotes; %s"
        _log.warning(message, path, rows.inner_breaks, _UNQUOTED_HINT)
    if not separator:
        usual = {".csv": ",", ".tsv": "\t"}.get(path.lower()[-4:], first.separator)
        level = logging.INFO if usual == first.separator else logging.WARNING
        _log.log(level, "%s: columns are separated by %s", path, mark_name)
    return rows


def open_json_lines(path: str, keys: Sequence[str]) -> Rows:
    """Opens rows of one JSON object per line.

    Args:
      path: of the file.
      keys: the keys to read, "meta.title" for a key of an inner object. One of the
        first rows must have each of them.

    Raises:
      ClipinError: none of the first rows is an object, or none has one of the keys.
      OSError: the file cannot be read.
    """
    head = storage.read_range(path, 0, HEAD)
    check_content(head, path, "table of JSON lines", "source.files")
    rows = Rows(path, _JsonLines(keys))
    if not len(rows):
        raise ClipinError(f"{path} is empty; set source.files")
    present, reason = {}, ""
    for row in range(min(len(rows), _MOST_PROBED)):
        try:
            values = _parse_object(rows.text(row))
        except BadRecord as error:
            reason = reason or f"{error} ({rows.describe(row)})"
            continue
        present |= dict.fromkeys(values)
        present |= {key: None for key in keys if value_at(values, key) is not None}
        if set(keys) <= set(present):
            break
    if not present:
        raise ClipinError(f"{path} has no JSON object in each line: {reason}")
    check_columns(keys, list(present), path)
    return rows


class _Delimited:
    """Rows of cells, split as Python's csv module does.

    A quote that opens a cell runs to the next quote that is not doubled, and the line
    breaks and separators between the two belong to the cell. Any other quote is a plain
    character.
    """

    def __init__(
        self, names: Sequence[str], separator: str, quoted: bool, spaced: bool
    ):
        self._names = names
        self._splitting = separator, quoted, spaced
        self.unended = "end"
        if quoted:
            self.unended = f"end: a quote is never closed; {_UNQUOTED_HINT}"

    def ends(self, data: bytes) -> np.ndarray:
        return row_ends(data, *self._splitting)

    def parse(self, text: bytes) -> Mapping[str, Any]:
        cells = split_cells(text, *self._splitting)
        if len(cells) != len(self._names):
            raise BadRecord(f"{len(cells)} cells, the header has {len(self._names)}")
        return dict(zip(self._names, cells, strict=True))


class _JsonLines:
    """One JSON object per line. Dots join the keys of inner objects."""

    unended = "end"

    def __init__(self, keys: Sequence[str]):
        self._keys = tuple(keys)

    def ends(self, data: bytes) -> np.ndarray:
        return np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1

    def parse(self, text: bytes) -> Mapping[str, Any]:
        values = _parse_object(text)
        return {key: value_at(values, key) for key in self._keys}


def _nonempty_rows(data: bytes, ends: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns the number of line breaks inside rows, and the nonempty rows' starts."""
    if not len(ends):
        return 0, ends
    characters = np.frombuffer(data, np.uint8)[: ends[-1]]
    begins = np.concatenate([[0], ends[:-1]])
    nonempty = (characters[begins] != _NEWLINE) & (characters[begins] != _RETURN)
    lines = int(np.count_nonzero(characters == _NEWLINE))
    return lines - len(ends), begins[nonempty]


class _FirstRow(NamedTuple):
    """The first row of a file: its separator, its cells, and `spaced` of `row_ends`."""

    separator: str
    cells: list[str]
    spaced: bool


def _read_first(
    start: bytes,
    columns: Sequence[str],
    separator: str,
    *,
    quoted: bool,
    header: Sequence[str],
    path: str,
) -> _FirstRow:
    """Returns the first row of a file.

    If no separator is given, it takes one that yields all `columns`, or as many cells
    as `header` has, else the one that yields most cells.
    """
    rows: dict[str, _FirstRow] = {}
    for mark in separator or _SEPARATORS:
        ends = row_ends(start, mark, quoted)
        line = (start[: ends[0]] if len(ends) else start).strip(b"\r\n")
        sign = mark.encode()
        # A space after each separator is no part of a cell, so that quotes behind it
        # enclose the cell.
        spaced = mark != " " and 0 < line.count(sign) == line.count(sign + b" ")
        try:
            cells = split_cells(line, mark, quoted, spaced)
        except BadRecord as error:
            raise ClipinError(f"{path}: its header is {error}; correct it") from error
        rows[mark] = _FirstRow(mark, [cell.strip() for cell in cells], spaced)

    def fit(row: _FirstRow) -> tuple[bool, int]:
        named = set(columns) <= set(row.cells)
        return (len(row.cells) == len(header) if header else named), len(row.cells)

    return max(rows.values(), key=fit)


def _names(
    cells: list[str], header: Sequence[str], path: str, remark: str
) -> list[str]:
    """Returns the names of the columns. Raises ClipinError if they are not as many."""
    if not header:
        return cells
    if len(header) != len(cells):
        raise ClipinError(
            f"{path}: source.columns has {len(header)} names, but its first row has "
            f"{len(cells)} cells{remark}"
        )
    return list(header)


def _parse_object(text: bytes) -> dict[str, Any]:
    """Returns the JSON object of a line. Raises BadRecord."""
    try:
        values = json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise BadRecord("not UTF-8") from error
    # Also numbers of too many digits, and too many brackets.
    except (ValueError, RecursionError) as error:
        raise BadRecord("no valid JSON") from error
    if not isinstance(values, dict):
        raise BadRecord("no JSON object")
    return values
