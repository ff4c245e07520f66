"""Few-shot classification: ridge regression on the features of a few images a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION, Figure, prefixed
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.inference.encoder import Encoder

CONSTANT = 100.0  # the feature that stands for a bias: large, so hardly penalised
_LEAST_SPREAD = 1e-5  # added to the standard deviation of every feature


class FewShot:
    """Scores of a linear classifier that has seen a few images of every class.

    The protocol of big_vision (`evaluators/fewshot_lsr.py`): pooled features
    standardised by the drawn images, a constant feature appended, targets 1 and -1, the
    ridge solution in closed form, and the class with the largest answer. It is exact:
    nothing but the draw is random. With several labels an image, a draw takes images
    that have a class among theirs, and learns all of their labels.
    """

    task = "few_shot"
    figures = {
        "*_shot/accuracy": Figure("{:.1%}", headline=True),
        "*_shot/seed_*_accuracy": Figure("{:.1%}"),
        **prefixed("*_shot/", CLASSIFICATION),
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        train_source: Any,
        classes: Classes = (),
        batch_size: int = 256,
        shots: Sequence[int] = (1, 5, 10, 25),
        seeds: Sequence[int] = (0, 1, 2),
        l2: float = 2.0**10,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: what is drawn from; classes: what
        `train_source` calls classes of the other, see `make_task`; shots: images of a
        class; one that has fewer gives all it has; seeds: of the draws, one each; l2:
        the penalty on the squared weights, as against the sum of squared errors.
        Raises ClipinError for classes or labels that do not fit, see `make_task`.
        """
        if not shots or min(shots) < 1 or not seeds or min(seeds) < 0 or l2 <= 0:
            raise ClipinError(
                "shots must be 1 or more, seeds 0 or more, and l2 above 0, got"
                f" {tuple(shots)}, {tuple(seeds)} and {l2}"
            )
        self.source = source
        self._task = make_task(source, train_source, classes)
        self._encode = encode
        self._batch_size = batch_size
        self._shots, self._seeds, self._l2 = tuple(shots), tuple(seeds), l2

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value), the means over the seeds as `NUMBER_shot/FIGURE`.

        `NUMBER_shot/seed_SEED_accuracy` is that of each draw, and
        `NUMBER_shot/short_classes` says how many classes had fewer images.
        """
        task = self._task
        train, test = task.features(self._encode, state.variables, self._batch_size)
        belongs = task.train_members
        shown = belongs.sum(axis=0)
        for shots in self._shots:
            found = []
            for seed in self._seeds:
                drawn = draw(belongs, shots, seed)
                answers = ridge(train[drawn], belongs[drawn], test, self._l2)
                found.append(scores.classification_scores(task.labels, answers))
            for name in found[0]:
                value = float(np.mean([values[name] for values in found]))
                yield _named(name, shots), value
            for seed, values in zip(self._seeds, found, strict=True):
                yield f"{shots}_shot/seed_{seed}_accuracy", values["accuracy"]
            yield f"{shots}_shot/short_classes", float((shown < shots).sum())


def _named(name: str, shots: int) -> str:
    chance = "chance/" if name.startswith("chance/") else ""
    return f"{chance}{shots}_shot/{name.removeprefix('chance/')}"


def draw(belongs: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Indices of `shots` images of every class, or of all where it has fewer.

    belongs: [B, K] bool. More shots with the same seed add to what fewer have drawn.
    Returns indices in rising order; an image drawn for two classes is there once.
    """
    order = np.random.default_rng(seed).permutation(len(belongs))
    chosen = [order[belongs[order, k]][:shots] for k in range(belongs.shape[1])]
    return np.unique(np.concatenate(chosen))


def ridge(
    features: np.ndarray, belongs: np.ndarray, scored: np.ndarray, l2: float
) -> np.ndarray:
    """Answers of ridge regression onto 1 and -1, all of it in float64.

    features: [B, D] to learn from; belongs: [B, K] bool; scored: [T, D].
    Returns [T, K]: all NaN where a feature to learn from is not finite.
    """
    if not np.isfinite(features).all():
        return np.full((len(scored), belongs.shape[1]), np.nan)
    features, scored = features.astype(np.float64), scored.astype(np.float64)
    mean, spread = features.mean(axis=0), features.std(axis=0) + _LEAST_SPREAD
    x, z = (
        np.pad((rows - mean) / spread, ((0, 0), (0, 1)), constant_values=CONSTANT)
        for rows in (features, scored)
    )
    targets = 2.0 * belongs - 1
    # The smaller of two systems that have the same solution.
    if x.shape[0] < x.shape[1]:
        gram = x @ x.T + l2 * np.eye(len(x))
        return z @ (x.T @ cho_solve(cho_factor(gram), targets))
    gram = x.T @ x + l2 * np.eye(x.shape[1])
    return z @ cho_solve(cho_factor(gram), x.T @ targets)
