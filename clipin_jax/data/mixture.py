"""A mixture of sources, which are read in proportion to their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.source import (
    Annotations,
    MixturePart,
    Record,
    Source,
    fingerprint,
)
from clipin_jax.errors import ClipinError

T = TypeVar("T", Annotations, Record)


class Mixture:
    """The records of all sources, one source after the other in the order of names.

    In training every source has its share of each batch, up to rounding, and its own
    epochs: a small source with a large weight starts again while a large one continues.
    No source leaves out a record. The length of an epoch of the mixture is the sum of
    the lengths of its sources.

    Labels are kept only if all sources have the same classes.

    Args:
      sources: name -> source.
      weights: name -> weight above 0, relative to the other sources. Weights need not
        sum to one. With the lengths of the sources as weights, all records are read
        equally often.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float]):
        self._names = sorted(sources)
        self._sources = [sources[name] for name in self._names]
        self.parts = [
            MixturePart(len(sources[name]), float(weights[name]))
            for name in self._names
        ]
        self._records = Concatenation([part.length for part in self.parts])
        classes = {source.classes for source in self._sources}
        self.classes = classes.pop() if len(classes) == 1 else ()
        self.fingerprint = fingerprint(
            "mixture 1",
            [source.fingerprint for source in self._sources],
            [part.weight for part in self.parts],
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record of the source that the index belongs to."""
        number, inner = self._records.locate(index)
        return self._without_foreign_label(self._sources[number][inner])

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record without its image."""
        number, inner = self._records.locate(index)
        return self._without_foreign_label(self._sources[number].annotations(inner))

    def describe(self, index: int) -> str:
        """Returns the origin of a record, for messages."""
        number, inner = self._records.locate(index)
        return f"{self._sources[number].describe(inner)} of {self._names[number]}"

    def _without_foreign_label(self, annotations: T) -> T:
        # A label is an index, which means nothing without the list of classes.
        if self.classes or "label" not in annotations:
            return annotations
        kept = annotations.copy()
        del kept["label"]
        return kept


def check_weights(weights: Mapping[str, Any]) -> None:
    """Checks the weights of a mixture.

    Raises:
      ClipinError: there are no weights, or one is missing (None) or not above 0.
    """
    if not weights:
        raise ClipinError("source 'mixture': its dict `sources` is empty")
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not weight > 0:
            raise ClipinError(
                f"source 'mixture': sources.{name}.weight is {weight}; it must be a "
                "number above 0"
            )
