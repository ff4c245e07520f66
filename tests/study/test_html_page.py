import json
from pathlib import Path

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.study.html_page import write_html_page
from clipin_jax.study.markdown_page import study_markdown
from tests.support.html_pages import EVIL, ParsedPage, check_self_contained
from tests.support.study_results import (
    RECALL,
    ablation_study,
    looseness_study,
    two_method_study,
)


def show(tmp_path: Path, content: dict) -> tuple[str, ParsedPage]:
    content = json.loads(json.dumps(content))
    text = write_html_page(content, tmp_path / "out" / "study.html").read_text("utf-8")
    check_self_contained(text)
    assert "nan" not in text and "None" not in text
    return text, ParsedPage(text)


def test_a_finished_study(tmp_path):
    _, page = show(tmp_path, looseness_study())
    assert "Does CLIPin make training robust to captions of other images?" in page.texts
    assert "4 methods × 4 levels of looseness × 5 seeds = 80 runs, all have run." in (
        page.texts
    )
    assert "Missing scores" not in page.texts
    assert page.texts.index("Conclusions") < page.texts.index("Scores")
    # One along the dial a metric; curves of a metric and of the loss, a level each.
    assert page.count("figure", **{"class": "chart"}) == 3 + 2 * 4
    assert {"76.19", "1.9", "arithmetic, ratio", "parameters, millions"} <= set(
        page.texts
    )
    assert "adds two regressions towards an averaged copy" in page.texts


def test_what_is_best_and_what_is_shown_needs_no_colours(tmp_path):
    _, page = show(tmp_path, looseness_study())
    means = [row[1].split(" ±")[0].strip("▲▼ ") for row in page.tables[0][1:-1]]
    assert page.bold[0] == max(means, key=float)  # of the first level
    assert page.count("span", title="above CLIP", **{"aria-label": "above CLIP"})
    assert page.count("span", title="below CLIP", **{"aria-label": "below CLIP"})
    assert {"▲ ", "▼ ", "above", "below", "undecided", "rises", "chance"} <= set(
        page.texts
    )
    looks = {a["class"] for t, a in page.tags if "key" in a.get("class", "")}
    assert len(looks) == len({look.split()[-1] for look in looks}) == 4


def test_lower_is_better_of_a_rank(tmp_path):
    content = two_method_study([5.0, 5.1, 5.2], [2.0, 2.0, 2.3])
    content["metrics"]["x"] = {"label": "rank", "chance": 64, "percent": False}
    content["metrics"]["x"]["lower_is_better"] = True
    _, page = show(tmp_path, content)
    assert "2.10" in page.bold and "5.10" not in page.bold and "▼ " in page.texts
    assert page.count("span", title="below A", **{"class": "good"}) == 2


def test_runs_that_failed_or_are_missing_are_listed(tmp_path):
    content = looseness_study()
    content["scores"][-1] = {
        "method": "CLIPin",
        "level": "0.6",
        "seed": 4,
        "failed": f"the loss is not a number {EVIL}",
    }
    content["scores"][7]["values"][RECALL] = None
    del content["scores"][22]
    _, page = show(tmp_path, content)
    assert f"failed: the loss is not a number {EVIL}" in page.texts
    assert {"no number in mean recall", "has not run", "4 of 5 seeds"} <= set(
        page.texts
    )
    (sentence,) = [text for text in page.texts if text.startswith("Of 80 runs")]
    assert (
        "2 failed or have no number (1 of CLIP and 1 of CLIPin) and 1 has not"
        in sentence
    )


def test_a_study_without_a_dial_and_with_many_methods(tmp_path):
    _, page = show(tmp_path, ablation_study())
    assert "Along the dial" not in page.texts
    assert "14 methods × 3 seeds = 42 runs, all have run." in page.texts
    # Every method beside its baseline, in a metric and in the loss.
    assert page.count("figure", **{"class": "chart"}) == 2 * 13
    assert "CLIPin, weight 0.1 and CLIP" in page.bold


def test_a_study_that_has_only_begun(tmp_path):
    content = looseness_study() | {"scores": [], "costs": {}, "notes": {}}
    text, page = show(tmp_path, content)
    assert "0 of them have run" in text
    assert "12 not testable yet" in text and "<figure" not in text
    content["scores"] = looseness_study()["scores"][:1]
    content["scores"][0]["values"][RECALL] = float("nan")
    show(tmp_path, content)


def test_level_names_that_would_overlap_are_slanted(tmp_path):
    content = json.loads(json.dumps(looseness_study()))
    for levels in (content["levels"], ["basic", "twice the steps", "x" * 40, "all"]):
        for score in content["scores"]:
            score["level"] = levels[content["levels"].index(score["level"])]
        content["levels"] = levels
        _, page = show(tmp_path, content)
        slanted = sum("rotate" in a.get("transform", "") for _, a in page.tags)
        assert slanted == (0 if levels[0] == "0" else 3 * 4)
    assert "x" * 17 + "…" in page.texts


def test_no_comparison_and_one_level(tmp_path):
    content = looseness_study() | {"methods": ["CLIP"], "levels": ["0"]}
    content["scores"] = content["scores"][:5]
    _, page = show(tmp_path, content)
    assert "Nothing is compared in this study." in page.texts
    assert "Nothing is compared" in study_markdown(content)


def test_all_text_is_escaped(tmp_path):
    content = json.loads(json.dumps(looseness_study()).replace("xCLIP", "x<b>|CLIP"))
    content |= {"title": EVIL, "question": EVIL, "dial": "<i>"}
    text, _ = show(tmp_path, content)
    assert "<b>|CLIP" not in text and "<i>" not in text
    assert "| x<b>\\|CLIP " in study_markdown(content)


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClipinError, match="cannot write .*page.html"):
        write_html_page(looseness_study(), tmp_path / "file" / "page.html")
