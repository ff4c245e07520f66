"""Splits rows of text into cells, as Python's csv module does."""

from __future__ import annotations

import csv
import re

import numpy as np

from clipin_jax.data.source import BadRecord

_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


def row_ends(
    data: bytes, separator: str, quoted: bool, spaced: bool = False
) -> np.ndarray:
    """Returns the offset after each complete row of cells: [n] int.

    Args:
      data: begins with a row; after the last end is an incomplete row or nothing.
      separator: of cells, one ASCII character.
      quoted: whether cells may be in quotes.
      spaced: whether spaces before a cell are no part of it.
    """
    characters = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero((characters == _NEWLINE) | (characters == _RETURN))
    # In CR LF only the LF ends the row. A CR at the end of the data does not count, as
    # LF may follow in the next block.
    following = np.append(characters[1:], _NEWLINE)[breaks]
    breaks = breaks[(characters[breaks] == _NEWLINE) | (following != _NEWLINE)]
    if not quoted or b'"' not in data:
        return breaks + 1
    quotes = np.flatnonzero(characters == _QUOTE)
    if not _quotes_enclose_cells(characters, quotes, ord(separator)):
        return _match_rows(data, separator, spaced)
    # Every quote opens or closes, so breaks after an odd number of them are inside.
    return breaks[np.searchsorted(quotes, breaks) % 2 == 0] + 1


def _quotes_enclose_cells(
    characters: np.ndarray, quotes: np.ndarray, separator: int
) -> np.bool_ | bool:
    """Tells whether quotes only enclose whole cells, and are doubled inside."""
    may_adjoin = np.isin(np.arange(256), [separator, _NEWLINE, _RETURN, _QUOTE])
    # As if a line break were before the data and another after it.
    around = np.concatenate([[_NEWLINE], characters, [_NEWLINE]])
    opening, closing = quotes[::2], quotes[1::2]
    return may_adjoin[around[opening]].all() and may_adjoin[around[closing + 2]].all()


def _match_rows(data: bytes, separator: str, spaced: bool) -> np.ndarray:
    """Returns `row_ends` for quotes anywhere, by a slower regular expression."""
    mark = re.escape(separator)
    rest = rf"[^{mark}\r\n]*+"
    start = " *+" if spaced else ""
    cell = rf'(?:{start}"(?:[^"]++|"")*+"{rest}|(?!{start}"){rest})'
    row = rf"{cell}(?:{mark}{cell})*+(?:\r\n|\n|\r(?=[^\n]))"
    pattern, ends, at = re.compile(row.encode()), [], 0
    while match := pattern.match(data, at):
        at = match.end()
        ends.append(at)
    return np.array(ends, np.int64)


def split_cells(
    text: bytes, separator: str, quoted: bool, spaced: bool = False
) -> list[str]:
    """Returns the cells of one row. Raises BadRecord. See `row_ends`."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        [cells] = csv.reader(
            [text.decode()],
            delimiter=separator,
            quoting=quoting,
            skipinitialspace=spaced,
        )
    except UnicodeDecodeError as error:
        raise BadRecord("not UTF-8") from error
    except csv.Error as error:
        raise BadRecord(f"no valid row: {error}") from error
    return cells
