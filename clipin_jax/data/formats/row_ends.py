"""Where rows of delimited text end, told as Python's csv module tells it.

A quote that opens a cell runs to the next one that is not doubled, and line breaks and
separators between the two belong to the cell. Any other quote is a plain character.
"""

from __future__ import annotations

import functools
import re

import numpy as np

NEWLINE, _RETURN, _QUOTE = b'\n\r"'


def row_ends(data: bytes, separator: str, quoted: bool) -> np.ndarray:
    """Behind which byte each row ends; what is behind the last end is no whole row.

    Args:
      data: rows from the start of one on.
      separator: of cells, one ASCII character.
      quoted: whether cells may stand in quotes.
    """
    characters = np.frombuffer(data, np.uint8)
    breaks = _breaks(characters)
    if not quoted or b'"' not in data:
        return breaks + 1
    quotes = np.flatnonzero(characters == _QUOTE)
    if not _all_in_place(characters, quotes, ord(separator)):
        return _ends_one_by_one(data, separator)
    # Every quote opens or closes, so breaks behind an odd number of them are inside.
    return breaks[np.searchsorted(quotes, breaks) % 2 == 0] + 1


def _breaks(characters: np.ndarray) -> np.ndarray:
    """The last byte of each line break: LF, CR LF or CR."""
    breaks = np.flatnonzero((characters == NEWLINE) | (characters == _RETURN))
    following = np.append(characters[1:], NEWLINE)[breaks]
    # One that ends the data is left open: LF may follow.
    return breaks[(characters[breaks] == NEWLINE) | (following != NEWLINE)]


def _all_in_place(
    characters: np.ndarray, quotes: np.ndarray, separator: int
) -> np.bool_ | bool:
    """Whether quotes stand only around whole cells, and doubled inside."""
    beside = np.isin(np.arange(256), [separator, NEWLINE, _RETURN, _QUOTE])
    # As if a line break were before the data and another behind.
    around = np.concatenate([[NEWLINE], characters, [NEWLINE]])
    opening, closing = quotes[::2], quotes[1::2]
    return beside[around[opening]].all() and beside[around[closing + 2]].all()


def _ends_one_by_one(data: bytes, separator: str) -> np.ndarray:
    match, ends, at = _row(separator).match, [], 0
    while row := match(data, at):
        at = row.end()
        ends.append(at)
    return np.array(ends, np.int64)


@functools.cache
def _row(separator: str) -> re.Pattern[bytes]:
    mark = re.escape(separator)
    rest = rf"[^{mark}\r\n]*+"
    cell = rf'(?:"(?:[^"]++|"")*+"{rest}|(?!"){rest})'
    row = rf"{cell}(?:{mark}{cell})*+(?:\r\n|\n|\r(?=[^\n]))"
    return re.compile(row.encode())
