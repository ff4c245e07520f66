"""Splits a source that has no split of its own into training and evaluation."""

from __future__ import annotations

import numpy as np

from clipin_jax.data.source import Annotations, Record, Source, fingerprint

_SHARE = 20  # one record in so many is held out
_MOST = 1000  # records that are held out


class HeldOut:
    """The records of one part: those held out for evaluation, or all others.

    One record in twenty is held out, at most a thousand, spread evenly.

    Args:
      source: all records.
      training: whether this is the larger part.
    """

    def __init__(self, source: Source, *, training: bool):
        count, total = min(_MOST, max(1, len(source) // _SHARE)), len(source)
        held_out = np.arange(count) * total // count
        rest = np.setdiff1d(np.arange(total), held_out)
        self._indices = rest if training and len(rest) else held_out
        self._source, self.classes = source, source.classes
        part = "training" if training else "evaluation"
        self.fingerprint = fingerprint("held_out 1", source.fingerprint, part)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        """Returns a record of the part."""
        return self._source[self._at(index)]

    def annotations(self, index: int) -> Annotations:
        """Returns a record without its image."""
        return self._source.annotations(self._at(index))

    def describe(self, index: int) -> str:
        """Returns the origin of a record, for messages."""
        return self._source.describe(self._at(index))

    def _at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return int(self._indices[index])
