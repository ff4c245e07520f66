import copy
import json
from pathlib import Path

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.study.markdown import markdown
from clipin_jax.study.page import write_page
from clipin_jax.study.results_file import read_results
from tests.report.test_report import EVIL, Page
from tests.support.study_results import METRICS, RECALL, ablation, grid, looseness


def show(tmp_path: Path, content: dict) -> tuple[str, Page]:
    content = json.loads(json.dumps(content))
    text = write_page(content, tmp_path / "out" / "study.html").read_text("utf-8")
    assert "http" not in text and "<script" not in text and "@import" not in text
    assert "nan" not in text and "None" not in text
    return text, Page(text)


def test_a_finished_study(tmp_path):
    _, page = show(tmp_path, looseness())
    assert (
        "Does CLIPin make training robust to captions of other pictures?" in page.words
    )
    assert "4 methods × 4 levels of looseness × 5 seeds = 80 runs, all have run." in (
        page.words
    )
    assert "Runs without a number" not in page.words
    assert page.words.index("Reading") < page.words.index("Scores")
    # One along the dial a metric; curves of a metric and of the loss, a level each.
    assert page.count("figure", **{"class": "chart"}) == 3 + 2 * 4
    assert {"76.19", "1.9", "its floor by arithmetic", "parameters, millions"} <= set(
        page.words
    )
    assert "adds two regressions towards an averaged copy" in page.words


def test_what_is_best_and_what_is_shown_does_not_rest_on_colour(tmp_path):
    _, page = show(tmp_path, looseness())
    assert any(word.startswith("★ ") for word in page.bold)
    assert page.count("span", title="above CLIP", **{"aria-label": "above CLIP"})
    assert page.count("span", title="below CLIP", **{"aria-label": "below CLIP"})
    assert {"▲ ", "▼ ", "above", "below", "undecided", "rises", "chance"} <= set(
        page.words
    )
    looks = {a["class"] for t, a in page.tags if "key" in a.get("class", "")}
    assert len(looks) == len({look.split()[-1] for look in looks}) == 4


def test_less_is_better_of_a_rank(tmp_path):
    content = grid([5.0, 5.1, 5.2], [2.0, 2.0, 2.3])
    content["metrics"]["x"] = {"label": "rank", "chance": 64, "percent": False}
    content["metrics"]["x"]["lower_is_better"] = True
    _, page = show(tmp_path, content)
    assert "★ 2.10" in page.bold and "▼ " in page.words
    assert page.count("span", title="below A", **{"class": "good"}) == 2


def test_runs_that_failed_or_are_missing_are_listed(tmp_path):
    content = looseness()
    content["scores"][-1] = {
        "method": "CLIPin",
        "level": "0.6",
        "seed": 4,
        "failed": f"the loss is not a number {EVIL}",
    }
    content["scores"][7]["values"][RECALL] = None
    del content["scores"][22]
    _, page = show(tmp_path, content)
    assert f"failed: the loss is not a number {EVIL}" in page.words
    assert {"no number in mean recall", "has not run", "4 of 5 seeds"} <= set(
        page.words
    )
    (said,) = [word for word in page.words if word.startswith("Of 80 runs")]
    assert (
        "2 failed or gave no number (1 of CLIP and 1 of CLIPin) and 1 has not" in said
    )


def test_a_study_without_a_dial_and_with_many_methods(tmp_path):
    _, page = show(tmp_path, ablation())
    assert "Along the dial" not in page.words
    assert "14 methods × 3 seeds = 42 runs, all have run." in page.words
    # Every method beside its baseline, in a metric and in the loss.
    assert page.count("figure", **{"class": "chart"}) == 2 * 13
    assert "CLIPin, weight 0.1 and CLIP" in page.bold


def test_a_study_that_has_only_begun(tmp_path):
    content = looseness() | {"scores": [], "costs": {}, "notes": {}}
    text, page = show(tmp_path, content)
    assert "0 of them have run" in text
    assert "12 not testable yet" in text and "<figure" not in text
    content["scores"] = looseness()["scores"][:1]
    content["scores"][0]["values"][RECALL] = float("nan")
    show(tmp_path, content)


def test_names_of_levels_that_would_touch_are_slanted(tmp_path):
    content = json.loads(json.dumps(looseness()))
    for levels in (content["levels"], ["basic", "twice the steps", "x" * 40, "all"]):
        for score in content["scores"]:
            score["level"] = levels[content["levels"].index(score["level"])]
        content["levels"] = levels
        _, page = show(tmp_path, content)
        slanted = sum("rotate" in a.get("transform", "") for _, a in page.tags)
        assert slanted == (0 if levels[0] == "0" else 3 * 4)
    assert "x" * 17 + "…" in page.words


def test_no_comparison_and_one_level(tmp_path):
    content = looseness() | {"methods": ["CLIP"], "levels": ["0"]}
    content["scores"] = content["scores"][:5]
    _, page = show(tmp_path, content)
    assert "Nothing is compared in this study." in page.words
    assert "Nothing is compared" in markdown(content)


def test_all_that_is_written_is_escaped(tmp_path):
    content = json.loads(json.dumps(looseness()).replace("xCLIP", "x<b>|CLIP"))
    content |= {"title": EVIL, "question": EVIL, "dial": "<i>"}
    text, _ = show(tmp_path, content)
    assert "<b>|CLIP" not in text and "<i>" not in text
    assert "| x<b>\\|CLIP " in markdown(content)


def test_markdown_has_even_columns():
    text = markdown(looseness())
    assert text.startswith("## Loosely aligned captions\n\nDoes CLIPin make")
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 3  # means, comparisons, changes along the dial
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
    head, rule, *rows = tables[0].splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [
        "0",
        "0.2",
        "0.4",
        "0.6",
    ]
    assert rule.startswith("| -----") and "-:" in rule
    assert [row.split()[1] for row in rows] == [*looseness()["methods"], "chance"]
    assert "- At looseness 0.4 CLIPin is " in text
    assert "zero-shot accuracy, %" in markdown(ablation())


def test_results_are_read_back(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(looseness()))
    assert read_results(path) == looseness()


KEYS = [
    "name title question baseline methods dial levels metrics seeds scores costs",
    "settings environment",
]


@pytest.mark.parametrize("key", " ".join(KEYS).split())
def test_a_key_that_is_lacking(tmp_path, key):
    content = looseness()
    del content[key]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ClipinError, match=f'results.json: it lacks "{key}"; run the'):
        read_results(path)


def test_files_that_are_no_results(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(ClipinError, match="can not read the results .*: No such file"):
        read_results(path)
    for text, said in [
        ('{"name": "x', "is damaged"),
        ("[1]", "must be a mapping"),
        (b"\xff\xfe\x00", "is damaged"),
    ]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ClipinError, match=said):
            read_results(path)


FIRST = ("scores", 0)
WRONG = [
    (("methods",), "CLIP", '"methods" is .CLIP., and not a list'),
    (("methods",), [], "list of one or more texts"),
    (("levels",), [0, 0.2], "list of one or more texts"),
    (("levels",), ["0", "0"], "names something twice"),
    (("seeds",), ["0"], "list of one or more integers"),
    (("metrics",), {}, "metrics is empty"),
    (("metrics", RECALL), {"label": "x"}, 'mean_recall.*it lacks "percent"'),
    (("metrics", RECALL), METRICS[RECALL] | {"chance": "0"}, '"chance" is .0.'),
    (("baseline",), "CLOP", "'CLOP', none of the methods"),
    (("pairs",), [["CLIP"]], "which is no .method, baseline."),
    (("pairs",), [1], "which is no .method, baseline."),
    (("pairs",), [["CLIP", "CLOP"]], "'CLOP', none of the methods"),
    ((*FIRST, "method"), "CLOP", r"scores\[0\]: its method 'CLOP' is none of"),
    ((*FIRST, "seed"), 77, "its seed 77 is none of"),
    ((*FIRST, "seed"), 1, "stands there twice"),
    ((*FIRST, "values"), {RECALL: "0.3"}, "the value of retrieval.* not a number"),
    ((*FIRST, "values"), {RECALL: True}, "the value of retrieval.* not a number"),
    ((*FIRST, "curves"), {RECALL: [1, 2]}, "the curve of .* no list of"),
    ((*FIRST, "curves"), {RECALL: [[1, "2"]]}, "the curve of .* no list of"),
    (FIRST, None, r"scores\[0\]: it must be a mapping"),
    (("costs", "CLIP"), 3, "costs: .CLIP. is 3, and not a dict"),
]


@pytest.mark.parametrize(("place", "value", "said"), WRONG)
def test_results_that_contradict_themselves(tmp_path, place, value, said):
    content = copy.deepcopy(looseness())
    *path, last = place
    inner = content
    for key in path:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(ClipinError, match=said) as error:
        write_page(content, tmp_path / "page.html")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_page_that_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClipinError, match="can not write the study's page"):
        write_page(looseness(), tmp_path / "file" / "page.html")
