"""Nearest neighbours: the classes of the training images with the closest features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION, prefixed
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.inference.encoder import Encoder

ROWS, COLUMNS = 512, 8192  # scored images compared with training images at a time
_DIGITS = 6  # of a cosine: what is closer than that is equal


class NearestNeighbours:
    """Scores of votes among the k training images with the largest cosine.

    Votes weigh exp(cosine / temperature), as in Wu et al. 2018 (arXiv 1805.01978) and
    DINO; `majority/FIGURE` is where all weigh the same. A class's score is its share of
    the votes, and shares that are equal count against the model, as everywhere.
    """

    task = "nearest_neighbours"
    figures = {**CLASSIFICATION, **prefixed("majority/", CLASSIFICATION)}

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        train_source: Any,
        classes: Classes = (),
        batch_size: int = 256,
        k: int = 20,
        temperature: float = 0.07,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: the neighbours; classes: what
        `train_source` calls classes of the other, see `make_task`.
        Raises ClipinError for classes or labels that do not fit, see `make_task`, and
        for more neighbours than there are.
        """
        self.source = source
        self._task = make_task(source, train_source, classes)
        if not 1 <= k <= len(train_source) or temperature <= 0:
            raise ClipinError(
                f"k must be from 1 to {len(train_source)}, the images of train_source,"
                f" and temperature above 0, got {k} and {temperature}"
            )
        self._encode = encode
        self._batch_size = batch_size
        self._k, self._temperature = k, temperature

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        task = self._task
        train, test = task.features(self._encode, state.variables, self._batch_size)
        found, cosines = nearest(train, test, self._k)
        belongs = task.train_members
        # Relative to the closest, so that no power is too large.
        powers = np.exp(
            (cosines - cosines.max(axis=1, keepdims=True)) / self._temperature
        )
        weighted = votes(belongs, found, powers)
        yield from scores.classification_scores(task.labels, weighted).items()
        # One vote each, but for images whose features are no numbers.
        majority = votes(belongs, found, np.where(np.isnan(powers), powers, 1.0))
        for name, value in scores.classification_scores(task.labels, majority).items():
            if not name.startswith("chance/"):
                yield f"majority/{name}", value


def nearest(
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of `train` with the largest cosine to each of `test`.

    train: [B, D]; test: [T, D]; rows, columns: of each at a time, which is all the
    memory that it takes. Cosines are rounded to six digits, of equal ones the row that
    comes first is nearer; one that is not a number is farther than all others, and NaN
    in the answer.

    Returns indices [T, k] int, in no order, and their cosines [T, k] float64.
    """
    train, test = _unit(train), _unit(test)
    found = np.empty((len(test), k), int)
    cosines = np.empty((len(test), k))
    for first in range(0, len(test), rows):
        block = test[first : first + rows]
        near = np.empty((len(block), 0), int)
        value = np.empty((len(block), 0))
        for begin in range(0, len(train), columns):
            other = np.round(block @ train[begin : begin + columns].T, _DIGITS)
            value = np.hstack([value, np.where(np.isnan(other), -np.inf, other)])
            index = np.arange(begin, begin + other.shape[1])
            near = np.hstack([near, np.broadcast_to(index, other.shape)])
            kept = _largest(value, min(k, value.shape[1]))
            value = value[kept].reshape(len(block), -1)
            near = near[kept].reshape(len(block), -1)
        found[first : first + rows] = near
        cosines[first : first + rows] = np.where(np.isinf(value), np.nan, value)
    return found, cosines


def _unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Marks k of each row, of equal ones those that come first: [B, C] bool."""
    last = np.partition(values, -k, axis=1)[:, [-k]]
    above, equal = values > last, values == last
    left = k - above.sum(axis=1, keepdims=True)
    return above | (equal & (equal.cumsum(axis=1) <= left))


def votes(belongs: np.ndarray, found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of the votes that each class gets: [T, K].

    belongs: [B, K] bool; found: [T, k] int; weights: [T, k]. With several labels an
    image votes for each of them, so that shares may sum to more than 1.
    """
    total = np.zeros((len(found), belongs.shape[1]))
    for neighbour, weight in zip(found.T, weights.T, strict=True):
        total += weight[:, None] * belongs[neighbour]
    # Sums in another order differ by rounding: what is closer than that is equal.
    return np.round(total / weights.sum(axis=1, keepdims=True), 12)
