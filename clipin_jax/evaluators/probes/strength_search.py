"""A linear probe whose regularization is chosen on held-out samples.

Source: Radford et al. 2021, appendix A.3. It searches over 96 penalties on half the
squared weights, added to the sum of the losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import LabeledTask
from clipin_jax.evaluators.probes.logistic_regression import (
    MANY_LABELS,
    ONE_LABEL,
    LinearClassifier,
    Link,
    fit,
    holdout,
)

COARSE = tuple(10.0**power for power in range(-6, 7, 2))
HALVINGS = 4  # from two decades between neighbors to an eighth of one
TOLERANCE = 3e-5  # of the gradient; the loss is then within about 1e-5 of the least

Samples = tuple[np.ndarray, np.ndarray]  # features [B, D] and members [B, K]


class ProbeOptions(NamedTuple):
    """How a probe is fitted.

    Attributes:
      strengths: L2 penalties to try, per sample (see `fit`). () searches as CLIP does
        over 96 penalties, 1e-6 to 1e6 per training set: first coarsely, from strong to
        weak, then finer around the best. The coarse search stops after two penalties
        that are each worse than the one before.
      holdout_every: without validation samples, one in so many training samples is held
        out to choose the strength. The final probe learns from all of them.
      max_iterations: of the solver.
      seed: of the draw of those samples.
    """

    strengths: Sequence[float] = ()
    holdout_every: int = 5
    max_iterations: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Raises ClipinError for options out of range."""
        if self.holdout_every < 2 or (self.strengths and min(self.strengths) <= 0):
            raise ClipinError(
                "holdout_every must be at least 2 and every one of the strengths above"
                f" 0, got {self.holdout_every} and {tuple(self.strengths)}"
            )


def probe_scores(
    task: LabeledTask,
    train: np.ndarray,
    test: np.ndarray,
    options: ProbeOptions,
    validation: Samples | None = None,
) -> Iterator[tuple[str, float]]:
    """Fits a probe and yields its scores, then the chosen strength.

    Samples with one label give a softmax, samples with several a sigmoid per class.

    Args:
      task: labels to learn and to score.
      train: [B, D] features to learn from.
      test: [T, D] features to score.
      options: how the probe is fitted.
      validation: samples to choose the strength by; None for a part of `train`.
    """
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    train, test = ((x - mean) / spread for x in (train, test))
    members = task.train_members
    if validation is None:
        held = holdout(members, options.holdout_every, options.seed)
        parts = (train[~held], members[~held]), (train[held], members[held])
    else:
        features, validation_members = validation
        parts = (train, members), ((features - mean) / spread, validation_members)
    link = ONE_LABEL if task.labels.ndim == 1 else MANY_LABELS
    search = StrengthSearch(link, *parts, options.max_iterations)
    strength, start = search.best(sorted(options.strengths, reverse=True), len(train))
    probe = search.fit(train, members, strength, start)
    probabilities = link.probabilities(probe.logits(test))
    yield from scores.classification_scores(task.labels, probabilities).items()
    yield "strength", float(strength)


class StrengthSearch:
    """Fits probes of several strengths, and compares them by the loss on others."""

    def __init__(
        self, link: Link, train: Samples, validation: Samples, max_iterations: int
    ) -> None:
        self._link, self._max_iterations = link, max_iterations
        self._train, self._validation = train, validation
        self._tried: dict[float, tuple[float, LinearClassifier]] = {}

    def fit(
        self,
        features: np.ndarray,
        members: np.ndarray,
        strength: float,
        start: LinearClassifier | None,
    ) -> LinearClassifier:
        """Returns a probe, see `logistic_regression.fit`."""
        return fit(
            features,
            members,
            self._link,
            strength=strength,
            start=start,
            max_iterations=self._max_iterations,
            tolerance=TOLERANCE,
        )

    def best(
        self, strengths: Sequence[float], num_samples: int
    ) -> tuple[float, LinearClassifier]:
        """Returns the strength with the least loss, and its probe.

        Args:
          strengths: those to try; () for CLIP's search.
          num_samples: size of the training set, by which CLIP's penalties are divided.
        """
        if strengths:
            self._try(strengths)
        else:
            for penalty in reversed(COARSE):
                self._try([penalty / num_samples])
                losses = [loss for loss, _ in self._tried.values()][-3:]
                # Weaker penalties take longest to fit, and only fit noise better.
                if len(losses) > 2 and losses[0] < losses[1] < losses[2]:
                    break
            step = COARSE[1] / COARSE[0]
            for _ in range(HALVINGS):
                step = step**0.5
                center = self._least()
                self._try((center * step, center / step))
        strength = self._least()
        return strength, self._tried[strength][1]

    def _least(self) -> float:
        # If all losses are NaN, as for a diverged model, any strength is returned.
        return min(
            self._tried, key=lambda s: np.nan_to_num(self._tried[s][0], nan=np.inf)
        )

    def _try(self, strengths: Sequence[float]) -> None:
        features, members = self._validation
        for strength in sorted(strengths, reverse=True):
            # The solution for the next stronger penalty is a good start.
            stronger = [s for s in self._tried if s > strength]
            start = self._tried[min(stronger)][1] if stronger else None
            probe = self.fit(*self._train, strength, start)
            loss = self._link.loss(probe.logits(features), members)
            self._tried[strength] = loss, probe
