"""Linear probe: logistic regression on frozen image features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, Task, make_task
from clipin_jax.evaluators.probes.logistic_regression import (
    MANY_LABELS,
    ONE_LABEL,
    Link,
    Probe,
    fit,
    holdout,
)
from clipin_jax.inference.encoder import Encoder

# Radford et al. 2021, appendix A.3: the penalty on half the squared weights, as against
# the sum of the losses.
COARSE = tuple(10.0**power for power in range(-6, 7, 2))
HALVINGS = 4  # from two decades between neighbours to an eighth of one
TOLERANCE = 3e-5  # of the gradient; the loss is then within about 1e-5 of the least


class LinearProbe:
    """Accuracy, mean per-class recall, macro AUC and mAP of a linear classifier.

    It reads the tower's pooled features, before any projection. Its regularisation is
    the one with the least loss on images that it did not learn from: an own source for
    that, or a part of the training source; the evaluated source is never looked at.
    One label an image gives a softmax, several give one sigmoid a class.
    """

    task = "linear_probe"
    figures = CLASSIFICATION
    benchmark_keys = {
        "lp_acc1": "accuracy",
        "lp_acc5": "top5_accuracy",
        "lp_mean_per_class_recall": "mean_per_class_recall",
        "lp_mean_average_precision": "mean_average_precision",
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        train_source: Any,
        val_source: Any = None,
        classes: Classes = (),
        batch_size: int = 256,
        strengths: Sequence[float] = (),
        holdout_every: int = 5,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: what the probe learns from;
        val_source: what chooses among strengths; None takes one training image in
        `holdout_every`, drawn by `seed`, which are learnt from as well in the end;
        classes: what `train_source` calls classes of the others, see `make_task`;
        strengths: L2 penalties tried, per sample (see `fit`); () searches as CLIP does:
        over 96 penalties, 1e-6 to 1e6 per training set, ever finer around the best,
        but for those weaker than two that are worse than stronger ones in turn.
        Raises ClipinError for classes or labels that do not fit, see `make_task`.
        """
        if holdout_every < 2 or (strengths and min(strengths) <= 0):
            raise ClipinError(
                "holdout_every must be at least 2 and every one of the strengths above"
                f" 0, got {holdout_every} and {tuple(strengths)}"
            )
        self.source = source
        self._task = make_task(source, train_source, classes)
        self._val = None
        if val_source is not None:
            self._val = make_task(val_source, train_source, classes)
        self._encode = encode
        self._batch_size = batch_size
        self._strengths = sorted(strengths, reverse=True)
        self._holdout_every = holdout_every
        self._max_iterations = max_iterations
        self._seed = seed

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value), at last the strength of regularisation it took."""
        task = self._task
        train, test = task.features(self._encode, state.variables, self._batch_size)
        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 0, spread, 1)
        train, test = ((x - mean) / spread for x in (train, test))
        targets = task.train_members
        if self._val is None:
            held = holdout(targets, self._holdout_every, self._seed)
            learnt, judged = (
                (train[~held], targets[~held]),
                (train[held], targets[held]),
            )
        else:
            seen = self._val.source, self._batch_size
            val = self._encode.images(state.variables, *seen)["pooled"]
            belongs = scores.members(self._val.labels, len(task.classes))
            learnt, judged = (train, targets), ((val - mean) / spread, belongs)
        search = Search(_link(task), learnt, judged, self._max_iterations)
        strength, start = search.best(self._strengths, len(train))
        probe = search.fit(train, targets, strength, start)
        probabilities = _link(task).probabilities(probe.logits(test))
        yield from scores.classification_scores(task.labels, probabilities).items()
        yield "strength", float(strength)


def _link(task: Task) -> Link:
    return ONE_LABEL if task.labels.ndim == 1 else MANY_LABELS


class Search:
    """Strengths tried on some images and judged by the loss on others."""

    def __init__(self, link: Link, learnt, judged, max_iterations: int):
        """learnt, judged: features [B, D] and targets [B, K] of either."""
        self._link, self._max_iterations = link, max_iterations
        self._learnt, self._judged = learnt, judged
        self._tried: dict[float, tuple[float, Probe]] = {}

    def fit(self, features, targets, strength: float, start: Probe | None) -> Probe:
        """One probe, as `logistic.fit` learns it."""
        return fit(
            features,
            targets,
            self._link,
            strength=strength,
            start=start,
            max_iterations=self._max_iterations,
            tolerance=TOLERANCE,
        )

    def best(self, strengths: Sequence[float], samples: int) -> tuple[float, Probe]:
        """The strength with the least loss, and its probe, a good start for another.

        strengths: those to try; without any, CLIP's for so many samples.
        """
        if strengths:
            self._try(strengths)
        else:
            for penalty in reversed(COARSE):
                self._try([penalty / samples])
                losses = [loss for loss, _ in self._tried.values()][-3:]
                # The weakest take the longest, only to fit noise still better.
                if len(losses) > 2 and losses[0] < losses[1] < losses[2]:
                    break
            step = COARSE[1] / COARSE[0]
            for _ in range(HALVINGS):
                step = step**0.5
                centre = self._least()
                self._try((centre * step, centre / step))
        strength = self._least()
        return strength, self._tried[strength][1]

    def _least(self) -> float:
        # Where none is a number, as with a model that has diverged, any will do.
        return min(
            self._tried, key=lambda s: np.nan_to_num(self._tried[s][0], nan=np.inf)
        )

    def _try(self, strengths) -> None:
        features, targets = self._judged
        for strength in sorted(strengths, reverse=True):
            # The solution of the next stronger one is a good start.
            stronger = [s for s in self._tried if s > strength]
            start = self._tried[min(stronger)][1] if stronger else None
            learnt, members = self._learnt
            probe = self.fit(learnt, members, strength, start)
            loss = self._link.loss(probe.logits(features), targets)
            self._tried[strength] = loss, probe
