"""Nearest neighbors: classes by vote of the training images with closest features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION, prefixed
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

ROWS, COLUMNS = 512, 8192  # scored images and training images compared at a time
_DIGITS = 6  # cosines that differ by less are equal


class NearestNeighbors:
    """Scores of a vote among the k training images with the largest cosine.

    A vote has weight exp(cosine / temperature), as in Wu et al. 2018 (arXiv 1805.01978)
    and DINO; for `majority/METRIC` all weights are equal. The score of a class is its
    share of the votes. Equal shares count against the model.
    """

    task = "nearest_neighbors"
    figures = {**CLASSIFICATION, **prefixed("majority/", CLASSIFICATION)}

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        train_source: Source,
        classes: Classes = (),
        batch_size: int = 256,
        k: int = 20,
        temperature: float = 0.07,
    ) -> None:
        """Reads the labels.

        Args:
          encoder: of the model.
          source: images to score.
          train_source: images that vote.
          classes: class of `source` -> class of `train_source`, where names differ.
          batch_size: images encoded at a time.
          k: how many neighbors vote.
          temperature: of the weights.

        Raises:
          ClipinError: classes or labels that do not fit, see `make_task`, or more
            neighbors than training images.
        """
        self.source, self._train_source = source, train_source
        self._task = make_task(source, train_source, classes)
        trials = scores.classification_trials(self._task.labels)
        self.trials = trials | {f"majority/{name}": n for name, n in trials.items()}
        if not 1 <= k <= len(train_source) or temperature <= 0:
            raise ClipinError(
                f"k must be from 1 to {len(train_source)}, the images of train_source,"
                f" and temperature above 0, got {k} and {temperature}"
            )
        self._encoder = encoder
        self._batch_size = batch_size
        self._k, self._temperature = k, temperature

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        train, test = (
            self._encoder.images(state, source, self._batch_size)["pooled"]
            for source in (self._train_source, self.source)
        )
        neighbors, cosines = nearest(train, test, self._k)
        labels, members = self._task.labels, self._task.train_members
        # Relative to the closest neighbor, so that the exponential does not overflow.
        weights = np.exp(
            (cosines - cosines.max(axis=1, keepdims=True)) / self._temperature
        )
        weighted = vote_shares(members, neighbors, weights)
        yield from scores.classification_scores(labels, weighted).items()
        # NaN stays NaN: an image with such features must not get a score.
        equal = np.where(np.isnan(weights), weights, 1.0)
        majority = vote_shares(members, neighbors, equal)
        for name, value in scores.classification_scores(labels, majority).items():
            if not name.startswith("chance/"):
                yield f"majority/{name}", value


def nearest(
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows of `train` with the largest cosine to each row of `test`.

    Cosines are rounded to six digits. Of equal ones, the first row is nearer. A cosine
    that is not a number is smaller than all others, and NaN in the result.

    Args:
      train: [B, D].
      test: [T, D].
      k: at most B.
      rows, columns: of `test` and `train`, compared at a time; they bound the memory.

    Returns:
      Indices [T, k] int in no order, and their cosines [T, k] float64.
    """
    train, test = _unit(train), _unit(test)
    neighbors = np.empty((len(test), k), int)
    cosines = np.empty((len(test), k))
    for first in range(0, len(test), rows):
        block = test[first : first + rows]
        index = np.empty((len(block), 0), int)
        value = np.empty((len(block), 0))
        for begin in range(0, len(train), columns):
            new_value = np.round(block @ train[begin : begin + columns].T, _DIGITS)
            new_value = np.where(np.isnan(new_value), -np.inf, new_value)
            new_index = np.arange(begin, begin + new_value.shape[1])
            value = np.hstack([value, new_value])
            index = np.hstack([index, np.broadcast_to(new_index, new_value.shape)])
            kept = _largest(value, min(k, value.shape[1]))
            value = value[kept].reshape(len(block), -1)
            index = index[kept].reshape(len(block), -1)
        neighbors[first : first + rows] = index
        cosines[first : first + rows] = np.where(np.isinf(value), np.nan, value)
    return neighbors, cosines


def _unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Marks the k largest of each row, of equal ones the first: [B, C] bool."""
    smallest = np.partition(values, -k, axis=1)[:, [-k]]
    above, equal = values > smallest, values == smallest
    missing = k - above.sum(axis=1, keepdims=True)
    return above | (equal & (equal.cumsum(axis=1) <= missing))


def vote_shares(
    members: np.ndarray, neighbors: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Returns the share of the votes for each class: [T, K].

    An image with several labels votes for each of them, so that shares may sum to more
    than 1.

    Args:
      members: [B, K] bool, the labels of the training images.
      neighbors: [T, k] int.
      weights: [T, k].
    """
    total = np.zeros((len(neighbors), members.shape[1]))
    for neighbor, weight in zip(neighbors.T, weights.T, strict=True):
        total += weight[:, None] * members[neighbor]
    # Sums in another order differ by rounding.
    return np.round(total / weights.sum(axis=1, keepdims=True), 12)
