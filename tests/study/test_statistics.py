import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from clipin_jax.study.results_json import parse_results
from clipin_jax.study.statistics import (
    comparisons,
    holm,
    interactions,
    mean_interval,
    mean_over_seeds,
    paired_test,
    sign_flip_p,
)
from tests.support.study_results import looseness_study, two_method_study

EXACT = {"rtol": 1e-12, "atol": 1e-14}


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_means_and_tests_are_those_of_scipy(count):
    rng = np.random.default_rng(count)
    first, second = rng.normal(0.4, 0.05, (2, count))
    mean = mean_interval(first)
    expected = stats.t.interval(0.95, count - 1, np.mean(first), stats.sem(first))
    np.testing.assert_allclose([mean.low, mean.high], expected, **EXACT)
    test = paired_test(second - first)
    truth = stats.ttest_rel(second, first)
    np.testing.assert_allclose(test.p, truth.pvalue, **EXACT)
    low, high = truth.confidence_interval(0.95)
    np.testing.assert_allclose([test.low, test.high], [low, high], **EXACT)
    assert (test.n, test.mean) == (count, np.mean(second - first))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_sign_flip_test_tries_all_signs(count):
    values = np.random.default_rng(count).normal(0.5, 1, count).round(1)  # with ties
    signs = itertools.product([1, -1], repeat=count)
    sums = np.array([abs(np.dot(sign, values)) for sign in signs])
    expected = np.mean(sums >= abs(values.sum()) - 1e-9)
    np.testing.assert_allclose(sign_flip_p(values), expected, **EXACT)


def test_the_sign_flip_test_agrees_with_scipy():
    values = np.random.default_rng(7).normal(0.4, 1, 8)
    truth = stats.permutation_test((values,), np.mean, permutation_type="samples")
    np.testing.assert_allclose(sign_flip_p(values), truth.pvalue, **EXACT)
    assert np.isnan(sign_flip_p(np.ones(21))) and np.isnan(sign_flip_p(np.ones(0)))
    assert sign_flip_p(np.ones(20)) == 2 / 2**20


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferroni(seed):
    p = np.random.default_rng(seed).uniform(0, 0.2, 6).round(2)
    for i, corrected in enumerate(holm(p)):
        # Rejected when every set of hypotheses that holds it is.
        sets = (s for k in range(1, 7) for s in itertools.combinations(range(6), k))
        worst = max(min(1, len(s) * p[list(s)].min()) for s in sets if i in s)
        np.testing.assert_allclose(corrected, worst, **EXACT)


def test_holm_counts_missing_tests():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.03, np.nan, 0.08])
    assert holm([]).shape == (0,)


def test_one_seed_and_none_are_not_tested():
    for values in ([], [0.5]):
        test = paired_test(values)
        assert test.n == len(values) and np.isnan([test.p, test.low, test.high]).all()
    assert mean_interval([0.5])[0] == 0.5 and np.isnan(mean_interval([])[0])


@pytest.mark.parametrize("second", [[0.3, 0.5, 0.7], [0.1, 0.3, 0.5]])
def test_equal_differences_claim_no_certainty(second):
    study = parse_results(
        two_method_study([0.1, 0.3, 0.5], second)
    )  # their differences differ by rounding
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (comparison,) = comparisons(study, study.primary)
    assert np.isnan([comparison.test.p, comparison.test.low, comparison.p_holm]).all()
    assert comparison.test.n == 3 and comparison.verdict == "undecided"
    np.testing.assert_allclose(comparison.test.mean, second[0] - 0.1, **EXACT)


def test_only_seeds_that_both_have_are_paired():
    first = [0.1, 0.2, None, 0.45, 0.5]
    second = [0.2, float("nan"), 0.4, 0.6, 0.7]
    study = parse_results(two_method_study(first, second))
    (comparison,) = comparisons(study, study.primary)
    truth = stats.ttest_rel([0.2, 0.6, 0.7], [0.1, 0.45, 0.5])
    assert comparison.test.n == 3
    np.testing.assert_allclose(comparison.test.p, truth.pvalue, **EXACT)
    assert mean_over_seeds(study, study.primary, "A", "").n == 4
    assert [missing.reason for missing in study.missing_scores()] == [
        "no number in score"
    ] * 2


def test_pairs_replace_the_baseline():
    content = looseness_study()
    content["pairs"] = [["CLIPin", "xCLIP"], ["nCLIP", "CLIP"]]
    study = parse_results(content)
    compared = comparisons(study, study.primary)
    assert [(c.method, c.baseline) for c in compared[::4]] == study.pairs
    assert {c.family for c in compared} == {8}


def test_a_change_along_the_dial_is_a_test_of_slopes():
    study = parse_results(looseness_study())
    metric = study.primary
    compared = {c.method: c for c in interactions(study, metric)}
    levels = [float(level) for level in study.levels]
    slopes = []
    for seed in study.seeds:
        difference = [
            study.numbers(metric, "CLIPin", level)[seed]
            - study.numbers(metric, "CLIP", level)[seed]
            for level in study.levels
        ]
        slopes.append(stats.linregress(levels, difference).slope)
    truth = stats.ttest_1samp(slopes, 0)
    test = compared["CLIPin"].test
    np.testing.assert_allclose(test.mean, np.mean(slopes) * 0.6, rtol=1e-11)
    np.testing.assert_allclose(test.p, truth.pvalue, rtol=1e-10)
    low, high = truth.confidence_interval(0.95)
    np.testing.assert_allclose([test.low, test.high], [0.6 * low, 0.6 * high])
    assert compared["CLIPin"].family == 3 and compared["CLIPin"].verdict == "above"
    expected = holm([c.test.p for c in compared.values()])
    np.testing.assert_array_equal([c.p_holm for c in compared.values()], expected)


def test_a_seed_that_lacks_a_level_is_not_in_the_slopes():
    content = looseness_study()
    del content["scores"][0]
    study = parse_results(content)
    assert {c.test.n for c in interactions(study, study.primary)} == {4}
    lists = {"levels": ["none", "some"], "scores": []}
    study = parse_results(content | lists)
    assert interactions(study, study.primary) == []
