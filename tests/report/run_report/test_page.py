import json
import math

import numpy as np
import pytest
from PIL import Image

from clipin_jax.errors import ClipinError
from clipin_jax.report import write_report
from clipin_jax.report.run_history import FigureFormat, read_histories
from clipin_jax.report.run_report.page import report_page
from tests.support.html_pages import EVIL, ParsedPage, check_self_contained
from tests.support.run_folders import FIGURES, make_report, make_run, write_evaluation

COST_AXES = ("training steps", "images seen", "wall time, minutes")


def counted(trials: int) -> dict:
    """Returns the figures of a run with the outcomes of its recall counted."""
    recall, rank = FIGURES
    more = {"headline": True, "trials": trials}
    return {recall: FIGURES[recall] | more, rank: FIGURES[rank]}


def test_one_run(tmp_path):
    run = make_run(tmp_path / "run")
    write_evaluation(run, figures=FIGURES)
    (run / "DONE").touch()
    (run / "environment.json").write_text(json.dumps({"versions": {"jax": "0.10.2"}}))
    text, page = make_report(tmp_path, run)
    check_self_contained(text)
    # Five curves, and a score against three costs.
    assert page.count("figure", **{"class": "chart"}) == 5 + 3
    assert {"finished", "300 of 300", "30.0%", "1.2%", "0.10.2"} <= set(page.texts)
    assert EVIL in page.texts
    assert "2 min 30 s" in page.texts


def test_the_best_score_is_marked_only_where_the_intervals_say_so(tmp_path):
    for trials, marked in ((10_000, True), (100, False), (0, False)):
        runs = [tmp_path / f"{trials}_{name}" for name in ("first", "second")]
        for run, shift in zip(runs, (0.0, 0.05), strict=True):
            make_run(run, shift=shift)
            write_evaluation(run, figures=counted(trials))
        _, page = make_report(tmp_path, *runs)
        assert ("★ 35.0%" in page.bold) == marked
        assert not any("30.0%" in text or "5.0" == text for text in page.bold)
        assert page.count("span", **{"class": "bar"}) == 2  # the shares
        assert {"1.2%", "2"} <= set(page.texts)


def test_the_page_opens_with_scores_intervals_and_costs(tmp_path):
    runs = [make_run(tmp_path / name, shift=0.05 * (name == "b")) for name in "ab"]
    for run in runs:
        write_evaluation(run, figures=counted(400))
        (run / "size.json").write_text('{"parameters": 7400000, "trained": 1}')
    _, page = make_report(tmp_path, *runs)
    assert page.headings[:3] == ["Overview", "Score against cost", "Curves"]
    head, *rows = page.tables[0]
    assert head[0] == "run" and head[1] == "pets/text_to_image_R@1chance 1.2%"
    assert head[2:] == ["steps", "images/s", "wall time", "parameters"]
    low, high = wilson(round(0.3 * 400), 400)
    assert rows[0][:2] == ["a", f"30.0%{100 * low:.1f}–{100 * high:.1f}%"]
    assert rows[1][:2][0] == "b" and rows[1][1].startswith("35.0%")
    assert rows[0][2:] == ["300 of 300not finished", "103", "2 min 30 s", "7.4M"]
    # What a column is sorted by is a number, or nothing.
    values = [[float(x) for x in row[1:]] for row in page.values[0][1:]]
    assert values == [[0.3, 300, 103, 150, 7.4e6], [0.35, 300, 103, 150, 7.4e6]]


def wilson(hits: int, trials: int, z: float = 1.959963984540054) -> tuple:
    """Returns Wilson's interval by its formula."""
    share, n = hits / trials, trials
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n)
    half *= math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 5), (5, 5), (137, 512)])
def test_intervals_are_those_of_wilson(hits, trials):
    figure = FigureFormat("{:.1%}", False, True, trials)
    assert figure.interval(hits / trials) == pytest.approx(wilson(hits, trials))


def test_what_is_no_share_of_counted_outcomes_has_no_interval():
    assert FigureFormat("{:.1%}", False).interval(0.5) is None
    assert FigureFormat("{:.1f}", True, True, 100).interval(7.0) is None


def test_a_score_is_shown_against_each_cost_and_the_reader_chooses(tmp_path):
    runs = [make_run(tmp_path / name) for name in "ab"]
    write_evaluation(runs[0], figures=counted(400))
    _, page = make_report(tmp_path, *runs)
    charts = [a for t, a in page.tags if t == "figure" and "data-cost" in a]
    assert sorted(a["data-cost"] for a in charts) == ["0", "1", "2"]
    names = [text for text in page.texts if text in COST_AXES]
    assert sorted(set(names)) == sorted(COST_AXES)
    radios = [a for t, a in page.tags if t == "input"]
    assert [a["name"] for a in radios if "checked" in a] == ["score", "cost"]
    assert all(a["type"] == "radio" for a in radios)


def test_chosen_metrics_come_first(tmp_path):
    run = make_run(tmp_path / "run")
    write_evaluation(run, figures=counted(400))
    text = report_page(read_histories([run]), "images_per|median")
    page = ParsedPage(text)
    assert page.tables[0][0][1] == "pets/text_to_image_median_rank"
    first = text[: text.index("<details")]
    assert "images_<wbr>per_<wbr>second</b>" in first and ">loss</b>" not in first


@pytest.mark.parametrize(
    ("show", "message"),
    [("a(", "no regular expression"), ("nothing", "finds no metric.*train/loss")],
)
def test_a_pattern_that_shows_nothing_is_an_error(tmp_path, show, message):
    run = make_run(tmp_path / "run", steps=3)
    with pytest.raises(ClipinError, match=message):
        write_report([run], tmp_path / "report.html", show=show)


def test_a_page_of_many_runs_and_images_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype="uint8")
    more = {f"objective{i}/loss": i + 1.0 for i in range(40)}
    runs = []
    for number in range(40):
        run = make_run(
            tmp_path / f"run{number}", steps=101, more=more, shift=number / 100
        )
        write_evaluation(run, figures=counted(400))
        (run / "examples").mkdir()
        pairs = [[{"view": "view1", "file": "a.png", "caption": "a"}]] * 60
        (run / "examples" / "pairs.json").write_text(json.dumps(pairs))
        if number < 5:  # more are not read
            Image.fromarray(noise).save(run / "examples" / "a.png", compress_level=0)
        runs.append(run)
    text, page = make_report(tmp_path, *runs)
    assert 200_000 < len(text.encode()) < 2_000_000
    assert len(page.tables[0]) == 1 + 40
    assert page.count("img") > 20 and "left out: the page is full" in page.texts
    assert any("left out, for the size" in text for text in page.texts)


def test_tables_are_sortable_and_whole_without_the_script(tmp_path):
    runs = [make_run(tmp_path / name, steps=3) for name in "ab"]
    text, page = make_report(tmp_path, *runs)
    tables = [a for t, a in page.tags if t == "table"]
    assert "data-sort" in tables[0] and text.count("<script") == 1
    assert page.count("button") == 0  # the script makes them: none is there in vain
    assert text.index("<script") > text.index("</main>")
    alone = make_report(tmp_path, runs[0])[0]
    assert "<script" not in alone  # nothing to sort


def test_the_score_format_of_an_external_evaluator_is_used(tmp_path):
    run = make_run(tmp_path / "run", evals={"mine": {"type": "their_package:Mine"}})
    shown = {"mine/error": {"format": "{:.2f} dB", "better": "lower"}}
    scores = {"mine/error": 3.14159, "mine/detail": 0.25}
    write_evaluation(run, scores=scores, figures=shown)
    history = read_histories([run])[0]
    assert history.figures["mine/error"].lower_is_better
    _, page = make_report(tmp_path, run)
    assert {"3.14 dB", "0.250"} <= set(page.texts)


def test_the_score_format_of_a_run_in_progress_is_used(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "figures.json").write_text(json.dumps(FIGURES))
    _, page = make_report(tmp_path, run)
    assert {"30.0%", "1.2%", "10.0"} <= set(page.texts)


def test_scores_without_a_format(tmp_path):
    runs = [make_run(tmp_path / name, shift=0.05 * (name == "b")) for name in "ab"]
    _, page = make_report(tmp_path, *runs)
    assert {"0.300", "0.350", "0.012", "10"} <= set(page.texts)
    assert not {"0.300", "0.350", "5", "10"} & set(page.bold)


def test_saved_evaluations_are_added_to_those_of_the_log(tmp_path):
    run = make_run(tmp_path / "run")
    scores = {"probe/accuracy": 0.625, "probe/chance/accuracy": 0.25, "probe/bad": None}
    write_evaluation(run, scores=scores)
    (run / "eval" / "200.json").write_text("[]")
    final = read_histories([run])[0].final_scores()
    assert final["probe/accuracy"] == 0.625
    assert final["pets/text_to_image_R@1"] == 0.3


def test_differences_of_configs(tmp_path):
    runs = [make_run(tmp_path / str(i), batch_size=i, extra={}) for i in (8, 16)]
    _, page = make_report(tmp_path, *runs)
    different = next(t for t in page.tables if t[0] == ["key", "8", "16"])
    assert ["batch_size", "8", "16"] in different
    assert "total_steps" not in [row[0] for row in different]
    shared = page.tables[page.tables.index(different) + 1]
    assert ["total_steps", "300"] in shared
    same = [make_run(tmp_path / name) for name in ("a", "b")]
    assert "The runs have the same values." in make_report(tmp_path, *same)[1].texts


def test_a_killed_and_resumed_run(tmp_path):
    run = make_run(tmp_path / "run", steps=20)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "train/loss": 7.5}\n{"step": 21, "train/lo')
    (run / "environment.json").write_text('{"versions": {')
    _, page = make_report(tmp_path, run)
    history = read_histories([run])[0]
    assert history.series["train/loss"][15] == 7.5
    assert list(history.series["train/loss"]) == list(range(1, 21))
    assert "train/nan" not in history.series
    assert history.environment == {}
    assert "not finished" in page.texts
    assert "No evaluation has run yet." in page.texts


def test_a_run_without_any_step(tmp_path):
    run = make_run(tmp_path / "run", steps=0, evals=None)
    _, page = make_report(tmp_path, run)
    assert "Nothing has been logged yet." in page.texts
    (run / "metrics.jsonl").unlink()
    make_report(tmp_path, run)


def test_many_runs_of_the_same_name(tmp_path):
    runs = [make_run(tmp_path / f"sweep{i}" / "run", steps=3) for i in range(12)]
    _, page = make_report(tmp_path, *runs, runs[0])
    assert len(read_histories([*runs, runs[0]])) == 12
    assert {"sweep0/", "sweep11/"} <= set(page.texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run folder: it has no config.json"),
        ("[1", "config.json is damaged"),
    ],
)
def test_a_folder_without_a_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ClipinError, match=message):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_without_runs_or_an_output_folder_it_is_an_error(tmp_path):
    with pytest.raises(ClipinError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    run = make_run(tmp_path / "run", steps=1)
    with pytest.raises(ClipinError, match="cannot write .*report.html"):
        write_report([run], run / "config.json" / "report.html")
