"""Several sources at once, each met as often as its weight says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clipin_jax.data.source import Annotations, MixturePart, Record, Source, fingerprint
from clipin_jax.errors import ClipinError


class Mixture:
    """The records of all sources, one source after the other by their names.

    In training every source has its share of each batch, exactly but for rounding, and
    epochs of its own: a small source with a large weight begins anew while a large one
    goes on, and none ever leaves a record out. What is called an epoch of the mixture
    is as many records as all sources have together.

    Args:
      sources: name -> source.
      weights: name -> how often its records are read against those of the others,
        above 0. Weights need not sum to one; the lengths of the sources are weights
        with which all records are read equally often.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float]):
        self._names = sorted(sources)
        self._sources = [sources[name] for name in self._names]
        self.parts = [
            MixturePart(len(sources[n]), float(weights[n])) for n in self._names
        ]
        self._ends = np.cumsum([part.length for part in self.parts])
        classes = {source.classes for source in self._sources}
        self.classes = classes.pop() if len(classes) == 1 else ()
        self.fingerprint = fingerprint(
            "mixture 1",
            [source.fingerprint for source in self._sources],
            [part.weight for part in self.parts],
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        """The record of the source in whose part the index lies."""
        number, own = self._place(index)
        return self._shared(self._sources[number][own])

    def annotations(self, index: int) -> Annotations:
        """Captions and label of a record, without its picture."""
        number, own = self._place(index)
        return self._shared(self._sources[number].annotations(own))

    def describe(self, index: int) -> str:
        """Where the record comes from, for messages."""
        number, own = self._place(index)
        return f"{self._sources[number].describe(own)} of {self._names[number]}"

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self._ends[number]) + self.parts[number].length

    def _shared(self, record: dict[str, Any]) -> dict[str, Any]:
        """Labels mean the same only where all sources have the same classes."""
        if self.classes:
            return record
        return {key: value for key, value in record.items() if key != "label"}


def check_weights(weights: Mapping[str, Any]) -> None:
    """Checks the weights of a mixture.

    Raises:
      ClipinError: there are none, or one is missing (None) or not above 0.
    """
    if not weights:
        raise ClipinError("source 'mixture': its dict `sources` is empty")
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not weight > 0:
            raise ClipinError(
                f"source 'mixture': sources.{name}.weight is {weight}; it must be a "
                "number above 0"
            )
