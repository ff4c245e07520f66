import json

import numpy as np

from clipin_jax.study import conclusions
from clipin_jax.study.results_json import parse_results
from tests.support.study_results import looseness_study, recall, two_method_study


def sentences(first, second, **changed) -> tuple[str, str]:
    study = parse_results(two_method_study(first, second, **changed))
    (sentence,) = conclusions.details(study)
    return sentence, " ".join(conclusions.summary(study))


BASE = [0.10, 0.20, 0.30, 0.40, 0.50]


def test_the_sentence_for_a_difference_in_points():
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


def test_the_sentence_for_raw_numbers_has_no_points():
    metrics = {"x": {"label": "loss", "chance": None, "percent": False}}
    metrics["x"]["lower_is_better"] = True
    higher = list(np.add(BASE, np.add(0.02, [0, 0.001, -0.001, 0.002, 0])))
    sentence, summary = sentences(BASE, higher, metrics=metrics)
    assert sentence.startswith("B is 0.020 above A in loss (95 % interval 0.019 to")
    assert "Lower is better" in summary


def test_the_sentence_for_what_is_not_shown():
    noisy = [0.12, 0.17, 0.34, 0.39, 0.53]
    sentence, summary = sentences(BASE, noisy)
    assert sentence == (
        "No difference between B and A is shown in score: the interval -2.6 to 4.6"
        " points includes zero (mean +1.0, p = 0.49, 5 seeds)."
    )
    assert "0 above the baseline, 0 below the baseline, 1 undecided" in summary


def test_the_sentence_for_what_the_correction_takes_back():
    content = looseness_study()
    higher = list(np.add(BASE, np.add(0.02, [0, 0.01, -0.01, 0.02, 0])))
    scores = []
    for method in content["methods"]:
        values = higher if method == "CLIPin" else BASE
        for seed, value in enumerate(values):
            cell = {"method": method, "level": "0.4", "seed": seed}
            scores.append(cell | {"values": {"retrieval/mean_recall": value}})
    study = parse_results(content | {"scores": scores})
    (sentence,) = [
        s for s in conclusions.details(study) if s.startswith("At looseness 0.4 CLIPin")
    ]
    assert sentence == (
        "At looseness 0.4 CLIPin is 2.4 points above CLIP in mean recall when"
        " taken alone (95 % interval 1.0 to 3.8), but p = 0.11 after Holm"
        " over 12 comparisons, 5 seeds: no difference is shown."
    )


def test_the_sentence_for_few_equal_and_lost_seeds():
    assert sentences([0.1], [0.2])[0] == (
        "B is 10.0 points above A in score on one seed, which cannot be tested."
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
    assert "Of 6 runs, 1 failed or have no number (1 of B)" in summary


def test_the_summary_lists_what_is_not_above_chance():
    metrics = {"x": {"label": "score", "chance": 0.25, "percent": True}}
    _, summary = sentences([0.2, 0.3, 0.24], [0.5, 0.6, 0.7], metrics=metrics)
    assert "Not shown to be above chance in score: A." in summary


def test_the_summary_along_a_dial():
    summary = conclusions.summary(parse_results(looseness_study()))
    assert summary[0].startswith("12 comparisons in mean recall: ")
    assert "nCLIP is below CLIP at looseness 0, 0.2, 0.4 and 0.6." in summary
    (rise,) = [s for s in summary if "rises" in s]
    assert rise.startswith(
        "From looseness 0 to 0.6 the difference CLIPin minus CLIP in"
    )
    assert "after Holm over 3 slopes, 5 seeds" in rise
    assert sum("no change" in s for s in summary) == 2
    assert "(steps 300, batch size 64)" in summary[-1]


def test_methods_with_equal_verdicts_share_a_sentence():
    content = looseness_study()
    for entry in content["scores"]:
        if entry["method"] == "xCLIP":  # exactly nCLIP, which is below throughout
            values = recall("nCLIP", float(entry["level"]), entry["seed"])
            entry["values"] = {"retrieval/mean_recall": values}
    summary = conclusions.summary(parse_results(content))
    assert "nCLIP and xCLIP are below CLIP at looseness 0, 0.2, 0.4 and 0.6." in summary


def test_the_summary_names_the_best_mean_over_the_dial():
    content = looseness_study()
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
    ) in conclusions.summary(parse_results(content))
    kept = [entry for entry in content["scores"] if entry["level"] != "0.6"]
    text = " ".join(conclusions.summary(parse_results(content | {"scores": kept})))
    assert "Averaged" not in text  # means of other levels would not compare


def test_amounts_are_singular_and_plural():
    metric = parse_results(two_method_study([0.1], [0.2])).primary
    assert [metric.size_text(x) for x in (0.01, -0.01, 0.023, 0.0)] == [
        "1.0 point", "1.0 point", "2.3 points", "0.0 points"
    ]  # fmt: skip
    assert (
        metric.text(-1e-9, sign=True) == "0.0"
        and metric.text(0.02, sign=True) == "+2.0"
    )


def test_names_that_read_like_prose_are_quoted():
    content = two_method_study(BASE, [0.1, 0.3, 0.2, 0.5, 0.4])
    text = json.dumps(content).replace('"B"', '"no head"')
    (sentence,) = conclusions.details(parse_results(json.loads(text)))
    assert sentence.startswith(
        "No difference between “no head” and A is shown in score"
    )
