import json

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.report import write_report
from clipin_jax.report.run_history import read_histories
from tests.support.html_pages import EVIL
from tests.support.run_folders import FIGURES, make_report, make_run, write_evaluation


def test_one_run(tmp_path):
    run = make_run(tmp_path / "run")
    write_evaluation(run, figures=FIGURES)
    (run / "DONE").touch()
    (run / "environment.json").write_text(json.dumps({"versions": {"jax": "0.10.2"}}))
    text, page = make_report(tmp_path, run)
    assert "http" not in text and "<script" not in text and "@import" not in text
    assert page.count("figure", **{"class": "chart"}) == 5
    assert {"finished", "300 of 300", "30.0%", "1.2%", "0.10.2"} <= set(page.texts)
    assert EVIL in page.texts
    assert "2 min 30 s" in page.texts


def test_scores_have_chance_beside_them_and_the_best_is_bold(tmp_path):
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", shift=0.05)
    write_evaluation(second, figures=FIGURES)
    _, page = make_report(tmp_path, first, second)
    assert "35.0%" in page.bold and "30.0%" not in page.bold
    assert "5.0" in page.bold and "10.0" not in page.bold  # the lower median rank
    assert "2" in page.texts and "2" not in page.bold
    assert page.count("span", **{"class": "bar"}) == 2  # the shares


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
    before_details = page.texts[: page.texts.index("Config", 20) + 12]
    assert "batch_size" in before_details
    assert "total_steps" not in before_details
    same = [make_run(tmp_path / name) for name in ("a", "b")]
    assert "The runs have the same config." in make_report(tmp_path, *same)[1].texts


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
