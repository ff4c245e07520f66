"""Chooses among the captions of an image, by their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipin_jax.data.source import Annotations, BadRecord, has_text
from clipin_jax.data.text.caption_cleaning import clean_caption
from clipin_jax.errors import ClipinError


def check_weights(weights: Sequence[Any]) -> None:
    """Checks `data.caption_weights`. Raises ClipinError."""
    pairs: list[Any] = [
        pair if isinstance(pair, tuple | list) else () for pair in weights
    ]
    valid = all(
        len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], int | float)
        and pair[1] >= 0
        for pair in pairs
    )
    if not valid or (pairs and not sum(pair[1] for pair in pairs) > 0):
        raise ClipinError(
            f"data.caption_weights is {weights}; it must be pairs of a kind of caption "
            "and a weight, as (('human', 0.7), ('synthetic', 0.3)), or () for "
            "equal shares"
        )
    if len({pair[0] for pair in pairs}) < len(pairs):
        raise ClipinError(f"data.caption_weights is {weights}: a kind occurs twice")


class CaptionChoice:
    """Draws captions of a record.

    Args:
      weights: pairs of a kind and its weight, relative to the other kinds that a record
        has; captions of kinds without a weight are never chosen. Empty: all captions
        of a record are chosen equally often.
      cleaning: the rule by which captions are cleaned, see `caption_cleaning`.
    """

    def __init__(self, weights: Sequence[tuple[str, float]], cleaning: str = ""):
        self._weights, self._cleaning = dict(weights), cleaning

    def shares(self, record: Annotations) -> np.ndarray | None:
        """Returns the probability of each caption: [captions] float; None if equal.

        Raises:
          BadRecord: the record has no caption of these kinds, or an empty caption.
        """
        if not record["captions"]:
            raise BadRecord("no caption")
        for text in record["captions"]:
            if not has_text(clean_caption(text, self._cleaning)):
                rule = f" after data.caption_cleaning={self._cleaning}"
                raise BadRecord("an empty caption" + rule * bool(self._cleaning))
        if not self._weights:
            return None
        kinds = record.get("kinds", ())
        if len(kinds) != len(record["captions"]):
            raise BadRecord("its captions are of no kind, see data.caption_weights")
        shares = np.array([self._weights.get(k, 0) / kinds.count(k) for k in kinds])
        if not shares.sum():
            raise BadRecord(f"only captions of kind {', '.join(sorted(set(kinds)))}")
        return shares / shares.sum()

    def draw(
        self, rng: np.random.Generator, count: int, shares: np.ndarray | None
    ) -> int:
        """Returns the index of one of `count` captions."""
        if shares is None:
            return int(rng.integers(count))
        return _weighted(rng, shares)

    def draw_another(
        self,
        rng: np.random.Generator,
        chosen: int,
        count: int,
        shares: np.ndarray | None,
    ) -> int:
        """Returns the index of another caption, or the same if there is no other."""
        if shares is None:
            if count == 1:
                return chosen
            return (chosen + int(rng.integers(1, count))) % count
        others = np.where(np.arange(count) == chosen, 0, shares)
        return _weighted(rng, others) if others.any() else chosen


def _weighted(rng: np.random.Generator, shares: np.ndarray) -> int:
    bounds = np.cumsum(shares)
    return int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
