"""Logistic regression with an L2 penalty, for softmax and for sigmoids.

The solver is L-BFGS (Nocedal and Wright 2006, algorithm 7.4) in the geometry of the
features: its first guess at the curvature is their Gram matrix under the weights that
the first probabilities give, solved by Cholesky. Features of a network are far from
round, and that takes most of their length out of the way: several times fewer steps
than from the identity. Products with the features are float32 until that limits the
gradient, and float64 from there. Features that are round gain nothing by the matrix,
and pay for it as much as for ten steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import ssyrk
from scipy.special import expit

_MEMORY = 10  # steps that L-BFGS remembers
_FLOAT32_TOLERANCE = 1e-5  # gradients below are made in float64
_SLOPE = 1e-4  # share of the promised decrease that a step must bring
_HALVINGS = 20


class Link(NamedTuple):
    """What makes probabilities of logits [B, K].

    normalizer: logits to the sum over B of the log normaliser, and its gradient, which
    is the probabilities [B, K].
    """

    normalizer: Callable[[np.ndarray], tuple[float, np.ndarray]]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """[B, K] to [B, K]."""
        return self.normalizer(logits)[1]

    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """The mean negative log likelihood of targets [B, K], 0 or 1."""
        return self.loss_and_error(logits, targets)[0]

    def loss_and_error(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The loss and its gradient in the logits."""
        normalizer, probabilities = self.normalizer(logits)
        hit = (targets * logits).sum(dtype=np.float64)
        loss = float(normalizer - hit) / len(logits)
        return loss, (probabilities - targets) / len(logits)


def _softmax(logits: np.ndarray) -> tuple[float, np.ndarray]:
    top = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - top)
    total = powers.sum(axis=1, keepdims=True)
    return float((np.log(total) + top).sum(dtype=np.float64)), powers / total


def _sigmoids(logits: np.ndarray) -> tuple[float, np.ndarray]:
    return float(np.logaddexp(0, logits).sum(dtype=np.float64)), expit(logits)


ONE_LABEL = Link(_softmax)
MANY_LABELS = Link(_sigmoids)


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
    Ends when no gradient is above `tolerance`, after `max_iterations`, or where
    rounding leaves nothing to gain. It is scikit-learn's LogisticRegression with
    C = 1 / (B strength). Features that are not finite give a probe that is not.
    """
    width, classes = features.shape[1], targets.shape[1]
    if not np.isfinite(features).all():
        return Probe(np.full((width, classes), np.nan), np.full(classes, np.nan))
    problem = _Problem(features, targets, link, strength)
    begin = np.vstack(start) if start else np.zeros((width + 1, classes))
    both = _minimize(problem, begin, max_iterations, tolerance)
    return Probe(both[:-1], both[-1])


class _Point(NamedTuple):
    at: np.ndarray  # [D + 1, K], the bias last
    loss: float
    gradient: np.ndarray


class _Problem:
    """The objective, its gradient, and a guess at the inverse of its curvature."""

    def __init__(self, features, targets, link: Link, strength: float):
        count, width = features.shape
        self._given = features, targets
        self._link, self._strength = link, strength
        self._penalty = np.full((width + 1, 1), strength)
        self._penalty[-1] = 0
        self._load(np.float32)

    def _load(self, dtype: type) -> None:
        # A feature, or a class, after the other: sums over classes are several times
        # faster that way, and no product has to turn its factors.
        features, targets = self._given
        self._columns = np.ones((features.shape[1] + 1, len(features)), dtype)
        self._columns[:-1] = features.T
        self._targets = np.asfortranarray(targets, dtype)

    @property
    def rounding(self) -> float:
        """The share of a loss below which differences say nothing."""
        return float(np.finfo(self._columns.dtype).eps)

    def sharpen(self) -> bool:
        """From float32 to float64; False where that has been done."""
        if self._columns.dtype == np.float64:
            return False
        self._load(np.float64)
        return True

    def __call__(self, at: np.ndarray) -> _Point:
        logits = self._logits(self._columns, at)
        loss, error = self._link.loss_and_error(logits, self._targets)
        gradient = self._columns @ error + self._penalty * at
        return _Point(at, loss + (self._penalty * at**2).sum() / 2, gradient)

    @staticmethod
    def _logits(columns: np.ndarray, at: np.ndarray) -> np.ndarray:
        return (at.T.astype(columns.dtype) @ columns).T

    def curvature(self, at: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Solves with one Gram matrix for all classes, p (1 - p) averaged over them."""
        columns = self._columns.astype(np.float32, copy=False)
        p = self._link.probabilities(self._logits(columns, at))
        weights = (p * (1 - p)).mean(axis=1)
        scaled = columns * np.sqrt(weights / len(weights))
        gram = ssyrk(1.0, scaled.T, trans=1, lower=1).astype(np.float64)
        diagonal = np.diag_indices(len(gram))
        # The penalty, and what float32 leaves uncertain of the smallest eigenvalues.
        gram[diagonal] += self._penalty[:, 0] + 1e-6 * np.trace(gram) + 1e-12
        factor = cho_factor(gram, lower=True, overwrite_a=True)
        factor = factor[0].astype(np.float32), True
        return lambda x: cho_solve(factor, x.astype(np.float32)).astype(np.float64)


def _minimize(
    problem: _Problem, begin: np.ndarray, max_iterations: int, tolerance: float
) -> np.ndarray:
    solve, memory = problem.curvature(begin), []
    point = problem(begin)
    for _ in range(max_iterations):
        steepest = np.abs(point.gradient).max()
        if steepest <= tolerance:
            break
        if steepest <= _FLOAT32_TOLERANCE and problem.sharpen():
            point = problem(point.at)
        after = _search(problem, point, _direction(point.gradient, memory, solve))
        if after is None:
            if not problem.sharpen():
                break
            point, memory = problem(point.at), []
            continue
        moved, turned = after.at - point.at, after.gradient - point.gradient
        curved = np.vdot(moved, turned)
        if curved > 0:
            memory = [*memory[1 - _MEMORY :], (moved, turned, 1 / curved)]
        point = after
    return point.at


def _direction(gradient: np.ndarray, memory: list, solve: Callable) -> np.ndarray:
    """Minus the inverse curvature times the gradient, by the two loops of L-BFGS."""
    direction, shares = -gradient, []
    for moved, turned, scale in reversed(memory):
        shares.append(scale * np.vdot(moved, direction))
        direction = direction - shares[-1] * turned
    direction = solve(direction)
    if memory:
        _, turned, scale = memory[-1]
        direction /= scale * np.vdot(turned, solve(turned))
    for moved, turned, scale in memory:
        direction += moved * (shares.pop() - scale * np.vdot(turned, direction))
    return direction


def _search(problem: _Problem, point: _Point, direction: np.ndarray) -> _Point | None:
    """The first of ever shorter steps that brings enough; None if none does."""
    slope, step = np.vdot(point.gradient, direction), 1.0
    if slope >= 0:
        return None
    for _ in range(_HALVINGS):
        after = problem(point.at + step * direction)
        excess = after.loss - point.loss - step * slope
        if excess <= (_SLOPE - 1) * step * slope + problem.rounding * point.loss:
            return after
        # The lowest point of the parabola through what is known, within bounds.
        step *= np.clip(-step * slope / (2 * excess), 0.1, 0.5)
    return None


def holdout(targets: np.ndarray, every: int, seed: int) -> np.ndarray:
    """Marks one sample in `every`, evenly over the classes: [B] bool.

    targets: [B, K], 0 or 1; a sample with several labels goes by its first.
    """
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    order = np.lexsort((shuffled, targets.argmax(axis=1)))
    held = np.zeros(len(targets), bool)
    held[order[::every]] = True
    return held
