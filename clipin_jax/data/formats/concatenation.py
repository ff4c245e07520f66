"""Indexes the records of several files, one file after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Concatenation:
    """Finds the file of a record by the record's index.

    Args:
      lengths: number of records of each file.
    """

    def __init__(self, lengths: Sequence[int]):
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, index: int) -> tuple[int, int]:
        """Returns the number of the file, and the record's index in it.

        Raises:
          IndexError: there is no such record.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)
