"""Means over seeds, and paired tests of the differences between methods.

Runs of one seed share the order of the data and their initial weights, so methods are
compared seed by seed: the differences are tested, not the two means. All tests are
two-sided, all intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from clipin_jax.study.results import Metric, StudyResults

LEVEL = 0.05  # below it, a difference counts as shown
MOST_FLIPPED = 20  # seeds; beyond, there are too many signs to try: 2**20 sums


class Mean(NamedTuple):
    """A mean over seeds with its t-interval, which is NaN for fewer than two values.

    n: the number of values.
    """

    mean: float
    low: float
    high: float
    n: int


class PairedTest(NamedTuple):
    """The test of a mean difference.

    low, high and p are NaN if the differences have no spread: there are fewer than two,
    or all are equal (a p of 0 would claim certainty).

    Attributes:
      mean: of the differences.
      low, high: of its t-interval.
      p: of the paired t-test.
      p_flip: of the sign-flip permutation test, which assumes less and is at least
        2 / 2**n.
      n: the number of differences.
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
      metric: that is compared.
      method, baseline: their names.
      level: of the dial; None for a change along the dial.
      test: of the differences, method minus baseline. Along the dial: of the change of
        the difference from the lowest to the highest level, by a straight line.
      p_holm: p after Holm's correction; NaN if p is NaN.
      family: the number of comparisons in the correction.
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
        """One of "above", "below", "undecided"; "untested" below two seeds."""
        if self.test.n < 2:
            return "untested"
        if not self.p_holm < LEVEL:
            return "undecided"
        return "above" if self.test.mean > 0 else "below"


def mean_interval(values: Iterable[float]) -> Mean:
    """Returns the mean of finite values, and its 95 % t-interval."""
    values = np.asarray(list(values), np.float64)
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else np.nan, np.nan, np.nan, n)
    mean, half = values.mean(), _half_width(values)
    return Mean(float(mean), float(mean - half), float(mean + half), n)


def paired_test(differences: Iterable[float], scale: float | None = None) -> PairedTest:
    """Tests whether the mean of differences, one for each seed, is zero.

    scale: the size of the numbers that were subtracted, by which rounding is judged;
    the largest difference if None.
    """
    values = np.asarray(list(differences), np.float64)
    mean, low, high, n = mean_interval(values)
    flip = sign_flip_p(values)
    if scale is None:
        scale = float(np.abs(values).max(initial=0.0))
    # The rounding of equal differences would make t arbitrarily large.
    if n < 2 or np.ptp(values) <= 1e-12 * scale:
        low = high = p = np.nan
        return PairedTest(mean=mean, low=low, high=high, p=p, p_flip=flip, n=n)
    t = mean / (values.std(ddof=1) / np.sqrt(n))
    p = 2 * float(stdtr(n - 1, -abs(t)))
    return PairedTest(mean=mean, low=low, high=high, p=p, p_flip=flip, n=n)


def sign_flip_p(differences: np.ndarray) -> float:
    """Returns the share of all 2**n choices of signs with a mean as far from zero.

    differences: [n]. The result is NaN for n = 0 and for n > 20.
    """
    if not 0 < len(differences) <= MOST_FLIPPED:
        return float("nan")
    # Flipping all signs keeps the distance from zero: the first sign can stay.
    sums = np.array([differences[0]])
    for value in differences[1:]:
        sums = np.concatenate([sums + value, sums - value])
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - rounding))


def holm(p: Iterable[float]) -> np.ndarray:
    """Returns p-values after Holm's step-down correction, [m] to [m].

    A missing test (NaN) stays NaN but counts, so that the correction does not depend on
    how many runs are done. Source: Holm, A simple sequentially rejective multiple test
    procedure, 1979.
    """
    p = np.asarray(list(p), np.float64)
    order = np.argsort(p, kind="stable")  # NaN last
    corrected = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return np.where(np.isnan(p), np.nan, corrected)


def mean_over_seeds(
    results: StudyResults, metric: Metric, method: str, level: str
) -> Mean:
    """Returns the mean over the seeds that have a number."""
    return mean_interval(results.numbers(metric, method, level).values())


def comparisons(results: StudyResults, metric: Metric) -> list[Comparison]:
    """Compares every pair on every level, in seeds that both have.

    The p-values of all of them are corrected together.
    """
    return _corrected(
        metric,
        [
            (*pair, level, _paired(results, metric, pair, level))
            for pair in results.pairs
            for level in results.levels
        ],
    )


def interactions(results: StudyResults, metric: Metric) -> list[Comparison]:
    """Tests how the difference of each pair changes along the dial.

    Only seeds with all levels count. A straight line is fitted to the differences of
    each seed; its rise from the lowest to the highest level is tested. Returns [] if
    the levels are not two or more numbers.
    """
    numbers = level_numbers(results)
    if numbers is None:
        return []
    centred = numbers - numbers.mean()
    rise = np.ptp(numbers) * centred / (centred**2).sum()
    tests = []
    for pair in results.pairs:
        by_level = [_differences(results, metric, pair, x) for x in results.levels]
        seeds = [seed for seed in results.seeds if all(seed in x for x in by_level)]
        rises = [float(rise @ [x[seed] for x in by_level]) for seed in seeds]
        scale = _largest(results, metric, pair, results.levels)
        tests.append((*pair, None, paired_test(rises, scale)))
    return _corrected(metric, tests)


def level_numbers(results: StudyResults) -> np.ndarray | None:
    """Returns the levels as numbers, [levels]; None if they are not, or all equal."""
    try:
        numbers = np.array([float(level) for level in results.levels])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() and np.ptp(numbers) > 0 else None


def _half_width(values: np.ndarray) -> float:
    n = len(values)
    quantile = stdtrit(n - 1, 1 - LEVEL / 2)
    return float(quantile * values.std(ddof=1) / np.sqrt(n))


def _differences(
    results: StudyResults, metric: Metric, pair: tuple[str, str], level: str
) -> dict[int, float]:
    """Returns seed -> method minus baseline, of the seeds that both have."""
    method, baseline = (results.numbers(metric, name, level) for name in pair)
    return {seed: method[seed] - baseline[seed] for seed in method if seed in baseline}


def _paired(
    results: StudyResults, metric: Metric, pair: tuple[str, str], level: str
) -> PairedTest:
    differences = _differences(results, metric, pair, level)
    scale = _largest(results, metric, pair, [level])
    return paired_test(differences.values(), scale)


def _largest(
    results: StudyResults, metric: Metric, pair: tuple[str, str], levels: list[str]
) -> float:
    """Returns the largest absolute value of the scores that are subtracted."""
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
        Comparison(
            metric=metric,
            method=method,
            baseline=baseline,
            level=level,
            test=test,
            p_holm=float(p),
            family=len(tested),
        )
        for (method, baseline, level, test), p in zip(tested, after, strict=True)
    ]
