"""Gives images the captions of other images, as pairs from the web have."""

from __future__ import annotations

import numpy as np

from clipin_jax.data.source import Annotations, Record, Source, fingerprint
from clipin_jax.errors import ClipinError, check_range


class Mismatched:
    """A source in which a share of the images has the captions of another image.

    Which image has which captions depends on `seed` alone. Labels stay.

    Args:
      source: of the pairs.
      share: of mismatched images, from 0 to 1.
      seed: of the choice.

    Raises:
      ClipinError: a share that is none, or a source of a single record.
    """

    def __init__(self, source: Source, share: float, seed: int = 0):
        check_range("source.share", share, 0, 1)
        if share and len(source) < 2:
            raise ClipinError(
                "source 'mismatched' needs at least two records: with one, there are "
                "no other captions"
            )
        self._source, self._share, self._seed = source, share, seed
        self.classes = source.classes
        parts = (source.fingerprint, str(share), str(seed))
        self.fingerprint = fingerprint("mismatched 1", *parts)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Returns a record, with its own captions or those of another image."""
        record = self._source[index]
        return {**self._with_captions(index, record), "image": record["image"]}

    def annotations(self, index: int) -> Annotations:
        """Returns a record without its image."""
        return self._with_captions(index, self._source.annotations(index))

    def describe(self, index: int) -> str:
        """Returns the origin of the image, for messages."""
        return self._source.describe(index)

    def _with_captions(self, index: int, own: Annotations) -> Annotations:
        if (other := self._other(index)) is None:
            return own
        theirs = self._source.annotations(other)
        mixed: Annotations = {**own, "captions": theirs["captions"]}
        mixed.pop("kinds", None)
        if "kinds" in theirs:
            mixed["kinds"] = theirs["kinds"]
        return mixed

    def _other(self, index: int) -> int | None:
        """Returns the record whose captions an image has; None for its own."""
        count = len(self)
        if not 0 <= index < count:
            raise IndexError(f"record {index} of {count}")
        rng = np.random.default_rng((self._seed, index))
        if rng.random() >= self._share:
            return None
        return int((index + rng.integers(1, count)) % count)
