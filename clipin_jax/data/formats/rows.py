"""Rows of text files, found once and read when they are asked for.

Kept is where each row begins: eight bytes a row.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.data import storage
from clipin_jax.data.formats.columns import check_columns
from clipin_jax.data.formats.row_ends import NEWLINE, row_ends
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
_BLOCK = 1 << 24  # bytes that are looked at in one go
_LONGEST_ROW = 1 << 24  # bytes; a quote that is never closed makes one of all rows
_HEADER = 1 << 16  # bytes in which the header must end
_LOOKED_AT = 1000  # JSON objects among which one must have a key
_TOGETHER = 4096  # rows that are read in one go when all are
_BOM = b"\xef\xbb\xbf"
_log = logging.getLogger(__name__)


class Rows:
    """The rows of a file, by index; empty lines are none.

    Args:
      path: of the file.
      ends_of: where rows end in bytes that begin with one.
      hint: what else to say of a row without end.

    Attributes:
      path: of the file.
      digest: of its content.
      breaks: how many line breaks are inside rows.

    Raises:
      ClipinError: a row that does not end.
      OSError: the file cannot be read.
    """

    def __init__(
        self, path: str, ends_of: Callable[[bytes], np.ndarray], hint: str = ""
    ):
        self.path, self.breaks = path, 0
        size, digest = storage.size(path), hashlib.sha256()
        begin = len(_BOM) if storage.read_range(path, 0, len(_BOM)) == _BOM else 0
        starts, rest = [], b""
        for at in range(begin, size, _BLOCK):
            block = storage.read_range(path, at, _BLOCK)
            digest.update(block)
            first, data = at - len(rest), rest + block
            last = at + _BLOCK >= size
            if last:
                data += b"\n"  # ends the last row, or is an empty one
            ends = ends_of(data)
            done = int(ends[-1]) if len(ends) else 0
            rest = data[done:]
            if len(rest) > _LONGEST_ROW or last and rest:
                raise ClipinError(
                    f"{path}: the row at byte {first + done} has no {hint}"
                )
            inside, found = _full_rows(data, ends)
            starts.append(first + found)
            self.breaks += inside
        self._starts = np.concatenate([*starts, [size]]).astype(np.int64)
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        """A row's values by column. Raises BadRecord, OSError."""
        start, end = self._starts[row : row + 2].tolist()
        text = storage.read_range(self.path, start, end - start)
        if len(text) < end - start:
            raise BadRecord("truncated: the file is shorter than it was")
        return self._parse(text.strip(b"\r\n"))

    def describe(self, row: int) -> str:
        """Where a row is; the first one is row 1."""
        return f"row {row + 1}, at byte {self._starts[row]}, of {self.path}"

    def values(self) -> Iterator[Mapping[str, Any]]:
        """The values by column of all rows that can be read. Raises OSError."""
        for first in range(0, len(self), _TOGETHER):
            starts = self._starts[first : first + _TOGETHER + 1]
            text = storage.read_range(
                self.path, int(starts[0]), int(starts[-1] - starts[0])
            )
            places = (starts - starts[0]).tolist()
            for start, end in zip(places, places[1:], strict=False):
                try:
                    yield self._parse(text[start:end].strip(b"\r\n"))
                except BadRecord:
                    continue

    def _parse(self, text: bytes) -> Mapping[str, Any]:
        raise NotImplementedError


class DelimitedRows(Rows):
    """Rows of cells, below a header.

    Args:
      path: of the file.
      wanted: columns that there must be.
      separator: a character, or "" to find out which it is.
      quoted: whether cells may stand in quotes.

    Raises:
      ClipinError: the file has no header or not these columns, no rows, or a quote that
        is never closed.
      OSError: it cannot be read.
    """

    def __init__(
        self, path: str, wanted: Sequence[str], separator: str = "", quoted: bool = True
    ):
        head = storage.read_range(path, 0, _HEADER).removeprefix(_BOM).lstrip(b"\r\n")
        if not head:
            raise ClipinError(f"{path} is empty; set source.files")
        self._quoted = quoted
        self._separator, self._names = _header(head, wanted, separator, quoted, path)
        name = _SEPARATORS.get(self._separator, repr(self._separator))
        remark = f", separated by {name}" + " (found out)" * (not separator)
        check_columns(wanted, self._names, path, remark)
        twice = [each for each in wanted if self._names.count(each) > 1]
        if twice:
            raise ClipinError(f"{path}: column {twice[0]!r} comes twice{remark}")
        hint = "set source.quoted=False if quotes are plain characters there"
        super().__init__(
            path,
            lambda data: row_ends(data, self._separator, quoted),
            f"end: a quote is never closed; {hint}" if quoted else "end",
        )
        self._starts = self._starts[1:]  # the header is no row
        if not len(self):
            raise ClipinError(f"{path} has a header, but no rows")
        if self.breaks > 0:
            _log.warning(
                "%s: %d line breaks inside cells in quotes; %s", path, self.breaks, hint
            )
        usual = {".csv": ",", ".tsv": "\t"}.get(path.lower()[-4:], self._separator)
        if not separator:
            level = logging.INFO if usual == self._separator else logging.WARNING
            _log.log(level, "%s: columns are separated by %s", path, name)

    def _parse(self, text: bytes) -> Mapping[str, Any]:
        cells = _cells(text, self._separator, self._quoted)
        if len(cells) != len(self._names):
            raise BadRecord(f"{len(cells)} cells, the header has {len(self._names)}")
        return dict(zip(self._names, cells, strict=True))


class JsonRows(Rows):
    """One JSON object a line. Keys inside one another are joined by dots.

    Args:
      path: of the file.
      wanted: the keys to read, each of which one of the first rows must have.

    Raises:
      ClipinError: none of the first rows is an object, or none has one of the keys.
      OSError: the file cannot be read.
    """

    def __init__(self, path: str, wanted: Sequence[str]):
        self._wanted = tuple(wanted)
        super().__init__(path, _lines, "end")
        if not len(self):
            raise ClipinError(f"{path} is empty; set source.files")
        there, reason = {}, ""
        for row in range(min(len(self), _LOOKED_AT)):
            start, end = self._starts[row : row + 2].tolist()
            try:
                values = _object(storage.read_range(path, start, end - start))
            except BadRecord as error:
                reason = reason or f"{error} ({self.describe(row)})"
                continue
            there |= dict.fromkeys(values)
            there |= {key: None for key in wanted if _at(values, key) is not None}
            if set(wanted) <= set(there):
                break
        if not there:
            raise ClipinError(f"{path} has no JSON object in each line: {reason}")
        check_columns(wanted, list(there), path)

    def _parse(self, text: bytes) -> Mapping[str, Any]:
        values = _object(text)
        return {key: _at(values, key) for key in self._wanted}


def _full_rows(data: bytes, ends: np.ndarray) -> tuple[int, np.ndarray]:
    """How many line breaks are inside rows, and where those with content begin."""
    if not len(ends):
        return 0, ends
    characters = np.frombuffer(data, np.uint8)[: ends[-1]]
    begins = np.concatenate([[0], ends[:-1]])
    full = (characters[begins] != NEWLINE) & (characters[begins] != ord("\r"))
    lines = int(np.count_nonzero(characters == NEWLINE))
    return lines - len(ends), begins[full]


def _lines(data: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE) + 1


def _header(
    head: bytes, wanted: Sequence[str], separator: str, quoted: bool, path: str
) -> tuple[str, list[str]]:
    """The separator, and the names of the columns.

    One that yields all wanted columns is the right one, else one that yields the most.
    """
    names = {}
    for each in separator or _SEPARATORS:
        ends = row_ends(head, each, quoted)
        line = head[: ends[0]] if len(ends) else head
        try:
            names[each] = [n.strip() for n in _cells(line.strip(b"\r\n"), each, quoted)]
        except BadRecord as error:
            raise ClipinError(f"{path}: its header is {error}; mend it") from error
    best = max(names, key=lambda n: (set(wanted) <= set(names[n]), len(names[n])))
    return best, names[best]


def _cells(text: bytes, separator: str, quoted: bool) -> list[str]:
    """The cells of one row. Raises BadRecord."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        [cells] = csv.reader([text.decode()], delimiter=separator, quoting=quoting)
    except UnicodeDecodeError as error:
        raise BadRecord("not UTF-8") from error
    except csv.Error as error:
        raise BadRecord(f"no valid row: {error}") from error
    return cells


def _object(text: bytes) -> dict[str, Any]:
    """What a line of JSON says. Raises BadRecord."""
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


def _at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or of keys inside one another; None where it is missing."""
    if key in values:
        return values[key]
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
