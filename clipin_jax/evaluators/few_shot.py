"""Few-shot classification: ridge regression on features of a few images per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from clipin_jax.data.source import Source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION, Figure, prefixed
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

CONSTANT = 100.0  # the feature for the bias: large, so that it is hardly penalized
_MIN_SPREAD = 1e-5  # added to the standard deviation of every feature


class FewShot:
    """Scores of a linear classifier that learns from a few images of every class.

    The protocol of big_vision (`evaluators/fewshot_lsr.py`): pooled features
    standardized by the drawn images, a constant feature appended, targets 1 and -1, the
    ridge solution in closed form, and the class with the largest output. Only the draw
    is random. If images have several labels, an image is drawn for any of its classes,
    and all of its labels are learned.
    """

    task = "few_shot"
    figures = {
        **prefixed("*_shot/", CLASSIFICATION),
        "*_shot/accuracy": Figure("{:.1%}", headline=True),
        "*_shot/seed_*_accuracy": Figure("{:.1%}"),
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        train_source: Source,
        classes: Classes = (),
        batch_size: int = 256,
        shots: Sequence[int] = (1, 5, 10, 25),
        seeds: Sequence[int] = (0, 1, 2),
        l2: float = 2.0**10,
    ) -> None:
        """Reads the labels.

        Args:
          encoder: of the model.
          source: images to score.
          train_source: images to draw from.
          classes: class of `source` -> class of `train_source`, where names differ.
          batch_size: images encoded at a time.
          shots: numbers of images per class; of a class with fewer, all are drawn.
          seeds: one per draw.
          l2: penalty on the squared weights, against the sum of squared errors.

        Raises:
          ClipinError: classes or labels that do not fit, see `make_task`, or numbers
            out of range.
        """
        if not shots or min(shots) < 1 or not seeds or min(seeds) < 0 or l2 <= 0:
            raise ClipinError(
                "shots must be 1 or more, seeds 0 or more, and l2 above 0, got"
                f" {tuple(shots)}, {tuple(seeds)} and {l2}"
            )
        self.source, self._train_source = source, train_source
        self._task = make_task(source, train_source, classes)
        self._encoder = encoder
        self._batch_size = batch_size
        self._shots, self._seeds, self._l2 = tuple(shots), tuple(seeds), l2

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value), the means over the seeds as `NUMBER_shot/METRIC`.

        `NUMBER_shot/seed_SEED_accuracy` is the accuracy of one draw.
        `NUMBER_shot/short_classes` is the number of classes with fewer images.
        """
        train, test = (
            self._encoder.images(state, source, self._batch_size)["pooled"]
            for source in (self._train_source, self.source)
        )
        members = self._task.train_members
        class_sizes = members.sum(axis=0)
        for shots in self._shots:
            draws = []
            for seed in self._seeds:
                drawn = draw(members, shots, seed)
                outputs = ridge(train[drawn], members[drawn], test, self._l2)
                draws.append(scores.classification_scores(self._task.labels, outputs))
            for name in draws[0]:
                value = float(np.mean([values[name] for values in draws]))
                yield _metric(name, shots), value
            for seed, values in zip(self._seeds, draws, strict=True):
                yield f"{shots}_shot/seed_{seed}_accuracy", values["accuracy"]
            yield f"{shots}_shot/short_classes", float((class_sizes < shots).sum())


def _metric(name: str, shots: int) -> str:
    chance = "chance/" if name.startswith("chance/") else ""
    return f"{chance}{shots}_shot/{name.removeprefix('chance/')}"


def draw(members: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Draws `shots` images of every class, or all of a class that has fewer.

    With the same seed, more shots add images to those of fewer shots.

    Args:
      members: [B, K] bool.
      shots: images per class.
      seed: of the draw.

    Returns:
      [N] int, indices in rising order, each once.
    """
    order = np.random.default_rng(seed).permutation(len(members))
    chosen = [order[members[order, k]][:shots] for k in range(members.shape[1])]
    return np.unique(np.concatenate(chosen))


def ridge(
    features: np.ndarray, members: np.ndarray, test: np.ndarray, l2: float
) -> np.ndarray:
    """Returns the outputs [T, K] of ridge regression onto 1 and -1, in float64.

    They are all NaN if a feature to learn from is not finite.

    Args:
      features: [B, D] to learn from.
      members: [B, K] bool.
      test: [T, D].
      l2: penalty on the squared weights.
    """
    if not np.isfinite(features).all():
        return np.full((len(test), members.shape[1]), np.nan)
    features, test = features.astype(np.float64), test.astype(np.float64)
    mean, spread = features.mean(axis=0), features.std(axis=0) + _MIN_SPREAD
    x, z = (
        np.pad((rows - mean) / spread, ((0, 0), (0, 1)), constant_values=CONSTANT)
        for rows in (features, test)
    )
    targets = 2.0 * members - 1
    # The smaller of two systems with the same solution.
    if x.shape[0] < x.shape[1]:
        gram = x @ x.T + l2 * np.eye(len(x))
        return z @ (x.T @ cho_solve(cho_factor(gram), targets))
    gram = x.T @ x + l2 * np.eye(x.shape[1])
    return z @ cho_solve(cho_factor(gram), x.T @ targets)
