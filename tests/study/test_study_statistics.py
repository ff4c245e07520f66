import itertools
import json
import warnings

import numpy as np
import pytest
from scipy import stats

from clipin_jax.study import reading, words
from clipin_jax.study.results_file import parse
from clipin_jax.study.statistics import (
    cell_mean,
    comparisons,
    holm,
    interactions,
    mean_interval,
    paired_test,
    sign_flip_p,
)
from tests.support.study_results import grid, looseness, recall

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


def test_holm_counts_what_has_no_test():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.03, np.nan, 0.08])
    assert holm([]).shape == (0,)


def test_one_seed_and_none_are_not_tested():
    for values in ([], [0.5]):
        test = paired_test(values)
        assert test.n == len(values) and np.isnan([test.p, test.low, test.high]).all()
    assert mean_interval([0.5])[0] == 0.5 and np.isnan(mean_interval([])[0])


@pytest.mark.parametrize("second", [[0.3, 0.5, 0.7], [0.1, 0.3, 0.5]])
def test_equal_differences_claim_no_certainty(second):
    study = parse(grid([0.1, 0.3, 0.5], second))  # their differences differ by rounding
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = comparisons(study, study.primary)
    assert np.isnan([found.test.p, found.test.low, found.p_holm]).all()
    assert found.test.n == 3 and found.verdict == "undecided"
    np.testing.assert_allclose(found.test.mean, second[0] - 0.1, **EXACT)


def test_only_seeds_that_both_have_are_paired():
    first = [0.1, 0.2, None, 0.45, 0.5]
    second = [0.2, float("nan"), 0.4, 0.6, 0.7]
    study = parse(grid(first, second))
    (found,) = comparisons(study, study.primary)
    truth = stats.ttest_rel([0.2, 0.6, 0.7], [0.1, 0.45, 0.5])
    assert found.test.n == 3
    np.testing.assert_allclose(found.test.p, truth.pvalue, **EXACT)
    assert cell_mean(study, study.primary, "A", "").n == 4
    assert [fault.reason for fault in study.faults()] == ["no number in score"] * 2


def test_pairs_take_the_place_of_the_baseline():
    content = looseness()
    content["pairs"] = [["CLIPin", "xCLIP"], ["nCLIP", "CLIP"]]
    study = parse(content)
    found = comparisons(study, study.primary)
    assert [(c.method, c.baseline) for c in found[::4]] == study.pairs
    assert {c.family for c in found} == {8}


def test_a_change_along_the_dial_is_a_test_of_slopes():
    study = parse(looseness())
    metric = study.primary
    found = {c.method: c for c in interactions(study, metric)}
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
    test = found["CLIPin"].test
    np.testing.assert_allclose(test.mean, np.mean(slopes) * 0.6, rtol=1e-11)
    np.testing.assert_allclose(test.p, truth.pvalue, rtol=1e-10)
    low, high = truth.confidence_interval(0.95)
    np.testing.assert_allclose([test.low, test.high], [0.6 * low, 0.6 * high])
    assert found["CLIPin"].family == 3 and found["CLIPin"].verdict == "above"
    expected = holm([c.test.p for c in found.values()])
    np.testing.assert_array_equal([c.p_holm for c in found.values()], expected)


def test_a_seed_that_lacks_a_level_is_not_in_the_slopes():
    content = looseness()
    del content["scores"][0]
    study = parse(content)
    assert {c.test.n for c in interactions(study, study.primary)} == {4}
    lists = {"levels": ["none", "some"], "scores": []}
    study = parse(content | lists)
    assert interactions(study, study.primary) == []


def sentences(first, second, **changed) -> tuple[str, str]:
    study = parse(grid(first, second, **changed))
    (sentence,) = reading.details(study)
    return sentence, " ".join(reading.summary(study))


BASE = [0.10, 0.20, 0.30, 0.40, 0.50]


def test_the_reading_of_a_difference_in_points():
    higher = list(np.add(BASE, np.add(0.02, [0, 0.001, -0.001, 0.002, 0])))
    sentence, summary = sentences(BASE, higher)
    assert sentence == (
        "B is 2.0 points above A in score (95 % interval 1.9 to 2.2, p < 0.001,"
        " 5 seeds)."
    )
    assert "1 comparison in score: 1 above the baseline, 0 below" in summary
    assert "B is above A." in summary and "weak" not in summary
    sentence, summary = sentences(higher, BASE)
    assert sentence.startswith("B is 2.0 points below A in score (95 % interval -2.2")
    assert "B is below A." in summary


def test_the_reading_of_raw_numbers_has_no_points():
    metrics = {"x": {"label": "loss", "chance": None, "percent": False}}
    metrics["x"]["lower_is_better"] = True
    higher = list(np.add(BASE, np.add(0.02, [0, 0.001, -0.001, 0.002, 0])))
    sentence, summary = sentences(BASE, higher, metrics=metrics)
    assert sentence.startswith("B is 0.020 above A in loss (95 % interval 0.019 to")
    assert "Lower is better" in summary


def test_the_reading_of_what_is_not_shown():
    noisy = [0.12, 0.17, 0.34, 0.39, 0.53]
    sentence, summary = sentences(BASE, noisy)
    assert sentence == (
        "No difference between B and A is shown in score: the interval -2.6 to 4.6"
        " points includes zero (mean +1.0, p = 0.49, 5 seeds)."
    )
    assert "0 above the baseline, 0 below the baseline, 1 undecided" in summary


def test_the_reading_of_what_the_correction_takes_back():
    content = looseness()
    higher = list(np.add(BASE, np.add(0.02, [0, 0.01, -0.01, 0.02, 0])))
    scores = []
    for method in content["methods"]:
        values = higher if method == "CLIPin" else BASE
        for seed, value in enumerate(values):
            cell = {"method": method, "level": "0.4", "seed": seed}
            scores.append(cell | {"values": {"retrieval/mean_recall": value}})
    study = parse(content | {"scores": scores})
    (sentence,) = [
        s for s in reading.details(study) if s.startswith("At looseness 0.4 CLIPin")
    ]
    assert sentence == (
        "At looseness 0.4 CLIPin is 2.4 points above CLIP in mean recall if nothing"
        " else is compared (95 % interval 1.0 to 3.8), but p = 0.11 after Holm over 12"
        " comparisons, 5 seeds: no difference is shown."
    )


def test_the_reading_of_few_equal_and_lost_seeds():
    assert sentences([0.1], [0.2])[0] == (
        "B is 10.0 points above A in score on one seed, which can not be tested."
    )
    assert "1 not testable yet" in sentences([0.1], [0.2])[1]
    assert sentences(BASE, BASE)[0] == "B and A are equal in score on 5 seeds."
    assert "on each of 2 seeds" in sentences([0.1, 0.2], [0.11, 0.21])[0]
    assert (
        sentences([0.1], [None])[0] == "No seed has numbers of both B and A in score."
    )
    sentence, summary = sentences([0.1, 0.2, 0.3], [0.2, 0.31, None])
    assert "2 of 3 seeds" in sentence
    assert "With 2 seeds a test is weak" in summary
    assert "Of 6 runs, 1 failed or gave no number (1 of B)" in summary


def test_the_reading_says_what_is_not_above_chance():
    metrics = {"x": {"label": "score", "chance": 0.25, "percent": True}}
    _, summary = sentences([0.2, 0.3, 0.24], [0.5, 0.6, 0.7], metrics=metrics)
    assert "Not shown to be above chance in score: A." in summary


def test_the_reading_along_a_dial():
    said = reading.summary(parse(looseness()))
    assert said[0].startswith("12 comparisons in mean recall: ")
    assert "nCLIP is below CLIP at looseness 0, 0.2, 0.4 and 0.6." in said
    (rise,) = [s for s in said if "rises" in s]
    assert rise.startswith("From looseness 0 to 0.6 the difference CLIPin less CLIP in")
    assert "after Holm over 3 slopes, 5 seeds" in rise
    assert sum("no change" in s for s in said) == 2
    assert "(steps 300, batch size 64)" in said[-1]


def test_methods_that_stand_alike_are_said_together():
    content = looseness()
    for entry in content["scores"]:
        if entry["method"] == "xCLIP":  # exactly nCLIP, which is below throughout
            values = recall("nCLIP", float(entry["level"]), entry["seed"])
            entry["values"] = {"retrieval/mean_recall": values}
    said = reading.summary(parse(content))
    assert "nCLIP and xCLIP are below CLIP at looseness 0, 0.2, 0.4 and 0.6." in said


def test_the_reading_says_whose_mean_over_the_dial_is_best():
    content = looseness()
    means = {
        method: np.mean(
            [
                entry["values"]["retrieval/mean_recall"]
                for entry in content["scores"]
                if entry["method"] == method
            ]
        )
        for method in ("CLIPin", "CLIP")
    }
    assert (
        "Averaged over looseness, untested: mean recall is best with CLIPin "
        f"({100 * means['CLIPin']:.1f}); CLIP has {100 * means['CLIP']:.1f}."
    ) in reading.summary(parse(content))
    kept = [entry for entry in content["scores"] if entry["level"] != "0.6"]
    said = " ".join(reading.summary(parse(content | {"scores": kept})))
    assert "Averaged" not in said  # means of other levels would not compare


def test_lists_in_prose():
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(["a, b", "c", "d"]) == "a, b; c; and d"
    assert words.listed(["a", "b, c"]) == "a; and b, c"


def test_amounts_are_singular_and_plural():
    metric = parse(grid([0.1], [0.2])).primary
    assert [metric.amount(x) for x in (0.01, -0.01, 0.023, 0.0)] == [
        "1.0 point", "1.0 point", "2.3 points", "0.0 points"
    ]  # fmt: skip
    assert metric.text(-1e-9, sign=True) == "0.0" and metric.text(0.02, True) == "+2.0"
    assert [words.p_text(p) for p in (1e-5, 0.0123, 0.5, float("nan"))] == [
        "< 0.001", "0.012", "0.50", "–"
    ]  # fmt: skip


def test_names_that_read_like_prose_are_quoted():
    content = grid(BASE, [0.1, 0.3, 0.2, 0.5, 0.4])
    text = json.dumps(content).replace('"B"', '"no head"')
    (said,) = reading.details(parse(json.loads(text)))
    assert said.startswith("No difference between “no head” and A is shown in score")
