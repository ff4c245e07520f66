"""What several seeds say about a difference, and what they do not.

Runs of one seed share the order of the data and their initial weights, so methods are
compared seed by seed: the differences are tested, not the two means. All tests are
two-sided, all intervals hold 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from clipin_jax.study.results import Metric, Results

LEVEL = 0.05  # below it, a difference counts as shown
MOST_FLIPPED = 20  # seeds up to which all signs are tried: 2**20 sums


class Mean(NamedTuple):
    """A mean over seeds with its t-interval, which is NaN below two values."""

    mean: float
    low: float
    high: float
    n: int


class PairedTest(NamedTuple):
    """A mean difference.

    low, high: of its t-interval; p: of the paired t-test; p_flip: of the sign-flip
    permutation test, which assumes less and can not be below 2 / 2**n; n: differences.
    low, high and p are NaN where there is no spread to measure by: below two
    differences, or when all of them are equal (a p of 0 would claim certainty).
    """

    mean: float
    low: float
    high: float
    p: float
    p_flip: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A method against its baseline, on one level of the dial or along all of it.

    Attributes:
      level: of the dial; of a change along the dial, None.
      test: of the differences, method less baseline; along the dial, of how much the
        difference changes from its lowest to its highest level by a straight line.
      p_holm: p after Holm's correction; NaN where p is.
      family: how many comparisons were corrected for.
    """

    metric: Metric
    method: str
    baseline: str
    level: str | None
    test: PairedTest
    p_holm: float
    family: int

    @property
    def verdict(self) -> str:
        """What is shown: "above", "below", "undecided", or "untested" by one seed."""
        if self.test.n < 2:
            return "untested"
        if not self.p_holm < LEVEL:
            return "undecided"
        return "above" if self.test.mean > 0 else "below"


def mean_interval(values: Iterable[float]) -> Mean:
    """The mean and its 95 % t-interval, of finite values in any number."""
    values = np.asarray(list(values), np.float64)
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else np.nan, np.nan, np.nan, n)
    mean, half = values.mean(), _half_width(values)
    return Mean(float(mean), float(mean - half), float(mean + half), n)


def paired_test(differences: Iterable[float], scale: float | None = None) -> PairedTest:
    """Tests whether differences, one a seed, are other than zero on average.

    scale: the size of the numbers that were subtracted, which rounding goes by; the
    largest difference if it is not given.
    """
    values = np.asarray(list(differences), np.float64)
    mean, low, high, n = mean_interval(values)
    flip = sign_flip_p(values)
    if scale is None:
        scale = float(np.abs(values).max(initial=0.0))
    # Equal differences differ by rounding, and their t by fifteen powers of ten.
    if n < 2 or np.ptp(values) <= 1e-12 * scale:
        return PairedTest(mean, np.nan, np.nan, np.nan, flip, n)
    t = mean / (values.std(ddof=1) / np.sqrt(n))
    p = 2 * float(stdtr(n - 1, -abs(t)))
    return PairedTest(mean, low, high, p, flip, n)


def sign_flip_p(differences: np.ndarray) -> float:
    """The share of all 2**n choices of signs whose mean is as far from zero.

    differences: [n]. NaN without any, and beyond 20, where they are too many to try.
    """
    if not 0 < len(differences) <= MOST_FLIPPED:
        return float("nan")
    # Turning all signs changes no distance: the first may keep its own.
    sums = np.array([differences[0]])
    for value in differences[1:]:
        sums = np.concatenate([sums + value, sums - value])
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - rounding))


def holm(p: Iterable[float]) -> np.ndarray:
    """Holm's step-down correction; [m] -> [m].

    Holm, A simple sequentially rejective multiple test procedure, 1979. What has no
    test (NaN) keeps none but counts, so that the correction does not depend on how
    far a study has come.
    """
    p = np.asarray(list(p), np.float64)
    order = np.argsort(p, kind="stable")  # NaN last
    corrected = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return np.where(np.isnan(p), np.nan, corrected)


def cell_mean(results: Results, metric: Metric, method: str, level: str) -> Mean:
    """The mean over the seeds that have a number; Mean.n says how many those are."""
    return mean_interval(results.numbers(metric, method, level).values())


def comparisons(results: Results, metric: Metric) -> list[Comparison]:
    """Every pair on every level, in seeds that both have, corrected together."""
    return _corrected(
        metric,
        [
            (*pair, level, _paired(results, metric, pair, level))
            for pair in results.pairs
            for level in results.levels
        ],
    )


def interactions(results: Results, metric: Metric) -> list[Comparison]:
    """How each pair's difference changes along the dial, in seeds with all levels.

    A straight line is fitted to each seed's differences; its rise from the lowest to
    the highest level is tested. [] where the levels are not two or more numbers.
    """
    places = dial_places(results)
    if places is None:
        return []
    centred = places - places.mean()
    rise = np.ptp(places) * centred / (centred**2).sum()
    found = []
    for pair in results.pairs:
        by_level = [_differences(results, metric, pair, x) for x in results.levels]
        seeds = [seed for seed in results.seeds if all(seed in x for x in by_level)]
        rises = [float(rise @ [x[seed] for x in by_level]) for seed in seeds]
        scale = _size(results, metric, pair, results.levels)
        found.append((*pair, None, paired_test(rises, scale)))
    return _corrected(metric, found)


def dial_places(results: Results) -> np.ndarray | None:
    """The dial's levels as numbers, [levels]; None where they are none, or one."""
    try:
        places = np.array([float(level) for level in results.levels])
    except ValueError:
        return None
    return places if np.isfinite(places).all() and np.ptp(places) > 0 else None


def _half_width(values: np.ndarray) -> float:
    n = len(values)
    quantile = stdtrit(n - 1, 1 - LEVEL / 2)
    return float(quantile * values.std(ddof=1) / np.sqrt(n))


def _differences(
    results: Results, metric: Metric, pair: tuple[str, str], level: str
) -> dict[int, float]:
    """Seed -> method less baseline, of the seeds that both have."""
    method, baseline = (results.numbers(metric, name, level) for name in pair)
    return {seed: method[seed] - baseline[seed] for seed in method if seed in baseline}


def _paired(
    results: Results, metric: Metric, pair: tuple[str, str], level: str
) -> PairedTest:
    differences = _differences(results, metric, pair, level)
    scale = _size(results, metric, pair, [level])
    return paired_test(differences.values(), scale)


def _size(
    results: Results, metric: Metric, pair: tuple[str, str], levels: list[str]
) -> float:
    """The largest number among those that are subtracted."""
    numbers = (
        abs(value)
        for name in pair
        for level in levels
        for value in results.numbers(metric, name, level).values()
    )
    return max(numbers, default=0.0)


def _corrected(
    metric: Metric, tested: list[tuple[str, str, str | None, PairedTest]]
) -> list[Comparison]:
    after = holm(test.p for *_, test in tested)
    return [
        Comparison(metric, *entry, p_holm=float(p), family=len(tested))
        for entry, p in zip(tested, after, strict=True)
    ]
