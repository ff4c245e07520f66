"""Linear probe: logistic regression on frozen image features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import scores
from clipin_jax.evaluators.encode import Encoder, read_labels


class LinearProbe:
    """Accuracy, mean per-class recall, macro AUC and mAP of a linear classifier.

    It reads the tower's pooled features, before any projection. Its regularisation is
    chosen on a part of the training source; the evaluated source is never looked at.
    One label an image gives a softmax, several give one sigmoid a class.
    """

    task = "linear_probe"
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
        batch_size: int = 256,
        strengths: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        holdout_every: int = 5,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: what the probe learns from;
        strengths: L2 penalties tried, per sample (see `fit`);
        holdout_every: one training image in so many serves to choose among them.
        Raises ClipinError when the sources differ in classes or kind of label,
        or a label is missing or none of the classes.
        """
        _check(source, train_source, strengths, holdout_every)
        self.source = source
        self._train_source = train_source
        self._encode = encode
        self._batch_size = batch_size
        self._strengths = sorted(strengths, reverse=True)
        self._holdout_every = holdout_every
        self._max_iterations = max_iterations
        self._seed = seed
        self._train_labels = read_labels(train_source, len(source.classes))
        self._labels = read_labels(source, len(source.classes))
        if self._train_labels.ndim != self._labels.ndim:
            raise ClipinError(
                "linear_probe: one of source and train_source has one label an image,"
                " the other several: they must be of one kind"
            )

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value), at last the strength of regularisation it took."""
        train, test = (
            self._encode.images(state.variables, source, self._batch_size)["pooled"]
            for source in (self._train_source, self.source)
        )
        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 0, spread, 1)
        train, test = ((x - mean) / spread for x in (train, test))
        link = ONE_LABEL if self._labels.ndim == 1 else MANY_LABELS
        targets = scores.members(self._train_labels, len(self.source.classes))
        strength, start = self._choose(train, targets, link)
        probe = fit(
            train,
            targets,
            link,
            strength=strength,
            start=start,
            max_iterations=self._max_iterations,
        )
        probabilities = link.probabilities(probe.logits(test))
        yield from scores.classification_scores(self._labels, probabilities).items()
        yield "strength", float(strength)

    def _choose(
        self, features: np.ndarray, targets: np.ndarray, link: Link
    ) -> tuple[float, Probe]:
        """The strength with the least loss on a part of the training images.

        Also the probe of that strength on the other part, a good start for the whole.
        """
        held = holdout(targets, self._holdout_every, self._seed)
        tried, probe = [], None
        for strength in self._strengths:
            # Strongest first: each solution is a good start for the next weaker one.
            probe = fit(
                features[~held],
                targets[~held],
                link,
                strength=strength,
                start=probe,
                max_iterations=self._max_iterations,
                tolerance=1e-5,
            )
            loss = link.loss(probe.logits(features[held]), targets[held])
            tried.append((loss, strength, probe))
        _, strength, probe = min(tried, key=lambda entry: entry[0])
        return strength, probe


def _check(
    source: Any, train_source: Any, strengths: Sequence[float], holdout_every: int
) -> None:
    if not source.classes or tuple(source.classes) != tuple(train_source.classes):
        raise ClipinError(
            f"linear_probe: source has {len(source.classes)} classes, train_source"
            f" has {len(train_source.classes)}: both must name the same ones"
        )
    if holdout_every < 2 or not strengths or min(strengths) <= 0:
        raise ClipinError(
            "linear_probe: holdout_every must be at least 2 and every one of the"
            f" strengths above 0, got {holdout_every} and {tuple(strengths)}"
        )


class Link(NamedTuple):
    """What turns logits [B, K] into probabilities, and its mean negative likelihood."""

    probabilities: Callable[[np.ndarray], np.ndarray]
    loss: Callable[[np.ndarray, np.ndarray], float]


def _softmax_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    return -(targets * log_softmax(logits, axis=1)).sum() / len(logits)


def _sigmoid_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    return (np.logaddexp(0, logits) - targets * logits).sum() / len(logits)


ONE_LABEL = Link(partial(softmax, axis=1), _softmax_loss)
MANY_LABELS = Link(expit, _sigmoid_loss)


class Probe(NamedTuple):
    """A linear classifier: weight [D, K], bias [K]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """features: [B, D]. Returns [B, K]."""
        return features @ self.weight + self.bias


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    link: Link,
    *,
    strength: float,
    start: Probe | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Probe:
    """Logistic regression: least mean loss + strength / 2 |weight|^2, bias free.

    features: [B, D]; targets: [B, K], 0 or 1; start: where to begin, zeros by default.
    Solved in float64 by L-BFGS until no gradient is above `tolerance`.
    """
    features = np.asarray(features, np.float64)
    targets = np.asarray(targets, np.float64)
    rows, columns = features.shape[1], targets.shape[1]
    begin = np.vstack(start) if start else np.zeros((rows + 1, columns))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(rows + 1, columns)
        weight, bias = both[:-1], both[-1]
        logits = features @ weight + bias
        # Both links have the same gradient in their logits.
        error = (link.probabilities(logits) - targets) / len(features)
        gradient = np.vstack([features.T @ error + strength * weight, error.sum(0)])
        loss = link.loss(logits, targets) + strength / 2 * (weight**2).sum()
        return loss, gradient.ravel()

    options = {"maxiter": max_iterations, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
    found = minimize(
        objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    both = found.x.reshape(rows + 1, columns)
    return Probe(both[:-1], both[-1])


def holdout(targets: np.ndarray, every: int, seed: int) -> np.ndarray:
    """Marks one sample in `every`, evenly over the classes: [B] bool.

    targets: [B, K], 0 or 1; a sample with several labels goes by its first.
    """
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    order = np.lexsort((shuffled, targets.argmax(axis=1)))
    held = np.zeros(len(targets), bool)
    held[order[::every]] = True
    return held
