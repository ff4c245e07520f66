"""Logistic regression with an L2 penalty, for softmax and for sigmoids.

The solver is L-BFGS (Nocedal and Wright 2006, algorithm 7.4) with a preconditioner. Its
first estimate of the curvature is the Gram matrix of the features, weighted by the
initial probabilities and solved by Cholesky. The matrix costs as much as ten steps. The
features of a network differ much in scale, so that it saves several times as many.
Products with the features are float32 until that limits the gradient, then float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import ssyrk
from scipy.special import expit

_MEMORY = 10  # past steps that L-BFGS uses
_FLOAT32_TOLERANCE = 1e-5  # smaller gradients are computed in float64
_SLOPE = 1e-4  # share of the predicted decrease that a step must reach
_HALVINGS = 20


class Link(NamedTuple):
    """How logits [B, K] become probabilities.

    Attributes:
      normalizer: logits to the sum over B of the log normalizer, and to its gradient,
        which is the probabilities [B, K].
    """

    normalizer: Callable[[np.ndarray], tuple[float, np.ndarray]]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probabilities of logits: [B, K] to [B, K]."""
        return self.normalizer(logits)[1]

    def loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Returns the mean negative log likelihood of targets [B, K], 0 or 1."""
        return self.loss_and_error(logits, targets)[0]

    def loss_and_error(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Returns the loss, and its gradient with respect to the logits."""
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


class LinearClassifier(NamedTuple):
    """A linear classifier: weight [D, K], bias [K]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits [B, K] of features [B, D]."""
        return features @ self.weight + self.bias


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    link: Link,
    *,
    strength: float,
    start: LinearClassifier | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> LinearClassifier:
    """Minimizes the mean loss + strength / 2 |weight|^2; the bias has no penalty.

    Equals scikit-learn's LogisticRegression with C = 1 / (B strength). Features that
    are not finite give a classifier of NaN.

    Args:
      features: [B, D].
      targets: [B, K], 0 or 1.
      link: softmax or sigmoids.
      strength: of the penalty.
      start: initial classifier; None for zeros.
      max_iterations: bound on the number of steps.
      tolerance: the solver stops when no gradient is larger. It also stops when
        rounding prevents any gain.
    """
    width, classes = features.shape[1], targets.shape[1]
    if not np.isfinite(features).all():
        return LinearClassifier(
            np.full((width, classes), np.nan), np.full(classes, np.nan)
        )
    problem = _Problem(features, targets, link, strength)
    begin = np.vstack(start) if start else np.zeros((width + 1, classes))
    both = _minimize(problem, begin, max_iterations, tolerance)
    return LinearClassifier(both[:-1], both[-1])


class _Point(NamedTuple):
    at: np.ndarray  # [D + 1, K], the bias last
    loss: float
    gradient: np.ndarray


class _Problem:
    """The loss, its gradient, and an estimate of its inverse curvature."""

    def __init__(self, features, targets, link: Link, strength: float):
        count, width = features.shape
        self._inputs = features, targets
        self._link, self._strength = link, strength
        self._penalty = np.full((width + 1, 1), strength)
        self._penalty[-1] = 0
        self._load(np.float32)

    def _load(self, dtype: type) -> None:
        # Features and classes are contiguous: sums over classes are several times
        # faster that way, and no product transposes its factors.
        features, targets = self._inputs
        self._columns = np.ones((features.shape[1] + 1, len(features)), dtype)
        self._columns[:-1] = features.T
        self._targets = np.asfortranarray(targets, dtype)

    @property
    def rounding(self) -> float:
        """The share of a loss below which differences are rounding."""
        return float(np.finfo(self._columns.dtype).eps)

    def sharpen(self) -> bool:
        """Switches from float32 to float64; returns False if that is done already."""
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
        """Returns a solver with one Gram matrix, p (1 - p) averaged over classes."""
        columns = self._columns.astype(np.float32, copy=False)
        p = self._link.probabilities(self._logits(columns, at))
        weights = (p * (1 - p)).mean(axis=1)
        scaled = columns * np.sqrt(weights / len(weights))
        gram = ssyrk(1.0, scaled.T, trans=1, lower=1).astype(np.float64)
        diagonal = np.diag_indices(len(gram))
        # The penalty, and the rounding error of float32 in the smallest eigenvalues.
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
    """Returns minus inverse curvature times gradient, by the two loops of L-BFGS."""
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
    """Returns the first of successively shorter steps that decreases the loss enough.

    Returns None if none does.
    """
    slope, step = np.vdot(point.gradient, direction), 1.0
    if slope >= 0:
        return None
    for _ in range(_HALVINGS):
        after = problem(point.at + step * direction)
        excess = after.loss - point.loss - step * slope
        if excess <= (_SLOPE - 1) * step * slope + problem.rounding * point.loss:
            return after
        # The minimum of the parabola through the known values, within bounds.
        step *= np.clip(-step * slope / (2 * excess), 0.1, 0.5)
    return None


def holdout(targets: np.ndarray, every: int, seed: int) -> np.ndarray:
    """Marks one sample in `every`, evenly over the classes: [B] bool.

    targets: [B, K], 0 or 1; a sample with several labels counts as its first.
    """
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    order = np.lexsort((shuffled, targets.argmax(axis=1)))
    held = np.zeros(len(targets), bool)
    held[order[::every]] = True
    return held
