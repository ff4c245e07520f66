"""A run as an object."""

import json
import shutil
from pathlib import Path

import pyarrow
import pytest

import clipin_jax
from clipin_jax import ClipinError, Run
from clipin_jax.config import to_json
from clipin_jax.runs.owner import own_folder
from tests.notebook.conftest import CONFIG
from tests.support import tiny_runs
from tests.support.html_pages import ParsedPage
from tests.support.run_folders import FIGURES, make_run, write_evaluation


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture
def written(tmp_path):
    """A run of 300 steps that was never trained, with scores."""
    folder = make_run(tmp_path / "first")
    figures = {k: {**v, "headline": "R@1" in k} for k, v in FIGURES.items()}
    write_evaluation(folder, figures=figures)
    return Run(folder)


def test_scores_are_a_mapping_with_chance_beside(written):
    scores = written.scores
    assert scores["pets/text_to_image_R@1"] == pytest.approx(0.3)
    assert list(scores) == [
        "pets/text_to_image_R@1",
        "pets/text_to_image_median_rank",
        "pets/images_left_out",
    ]
    assert scores.chance == {"pets/text_to_image_R@1": 0.0123}
    assert dict(scores) == dict(written.scores) and len(scores) == 3
    lines = repr(scores).splitlines()
    assert lines[0].split() == ["pets/text_to_image_R@1", "30.0%", "(chance", "1.2%)"]
    with pytest.raises(KeyError, match="did you mean 'pets/text_to_image_R@1'"):
        scores["pets/text_to_image_R@10"]
    page = ParsedPage(scores._repr_html_())
    assert {"30.0%", "1.2%"} <= set(page.texts)


def test_the_history_has_a_row_for_each_logged_step(written):
    table = written.history
    assert isinstance(table, pyarrow.Table) and table.num_rows == 300
    assert table["step"].to_pylist() == list(range(1, 301))
    assert table["train/loss"][1].as_py() == 0.5
    ranks = table["pets/text_to_image_median_rank"]
    assert ranks.null_count == 297 and ranks[99].as_py() == 10
    assert not [name for name in table.column_names if "chance" in name]


def test_plots_have_the_metrics_that_are_asked_for(written, tmp_path):
    def titles(charts):
        return ParsedPage(charts._repr_html_()).bold

    assert titles(written.plot()) == ["loss", "pets/", "text_", "to_", "image_", "R@1"]
    assert titles(written.plot("loss")) == titles(written.plot("train/loss"))
    short = written.plot("text_to_image_R@1")
    assert titles(short) == titles(written.plot("pets/text_to_image_R@1"))
    other = make_run(tmp_path / "second", steps=200)
    for beside in (other, [Run(other)]):
        both = ParsedPage(written.plot("loss", beside=beside)._repr_html_())
        assert {"first", "second"} <= set(both.texts)
    with pytest.raises(ClipinError, match=r"\['loss'\] is no name of a metric"):
        written.plot(["loss"])
    assert "chance" in ParsedPage(written.plot(*FIGURES)._repr_html_()).texts


@pytest.mark.parametrize(
    "name, message",
    [
        ("losss", r"no metric 'losss' .*nearest are train/loss;.*column_names"),
        ("median_rank", "nearest are pets/text_to_image_median_rank"),
        ("accuracy", "nearest are health/a/accuracy, health/b/accuracy; "),
        ("xyzzy", "'xyzzy' was logged; run.history.column_names has all"),
    ],
)
def test_an_unknown_metric_names_the_nearest(written, name, message):
    with (Path(written.workdir) / "metrics.jsonl").open("a") as file:
        row = {"step": 301, "health/a/accuracy": 0.5, "health/b/accuracy": 0.5}
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ClipinError, match=message):
        written.plot(name)


def test_the_report_is_in_a_frame_and_a_file(written, tmp_path):
    other = make_run(tmp_path / "second", shift=0.1)
    page = written.report(other, output=tmp_path / "page.html")
    frame = ParsedPage(page._repr_html_()).tags
    [source] = [attributes["srcdoc"] for tag, attributes in frame if tag == "iframe"]
    assert {"30.0%", "40.0%"} <= set(ParsedPage(source).texts)
    saved = (tmp_path / "page.html").read_text()
    assert {"30.0%", "40.0%"} <= set(ParsedPage(saved).texts)
    assert "first and second" in repr(page)


def test_a_run_shows_itself(written):
    assert repr(written).endswith("first: 300 of 300 steps, not finished>")
    page = ParsedPage(written._repr_html_())
    assert {"300 of 300", "30.0%", "Curves", "Config"} <= set(page.texts)
    assert not written.finished


def test_a_run_without_scores_or_steps(tmp_path):
    run = Run(make_run(tmp_path / "empty", steps=0))
    assert len(run.scores) == 0 and repr(run.scores) == "no evaluation has run yet"
    assert run.history.num_rows == 0 and run.history.column_names == ["step"]
    assert "Nothing has been logged" in run.plot()._repr_html_()
    assert "0 of 300" in run._repr_html_()


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(ClipinError, match="absent is no run folder"):
        Run(tmp_path / "absent")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["CLIPModel"]}))
    with pytest.raises(ClipinError, match="is no run folder"):
        Run(tmp_path)


def test_a_run_without_a_checkpoint_has_no_model_yet(tmp_path):
    (tmp_path / "config.json").write_text(to_json(CONFIG))
    run = Run(tmp_path)
    with pytest.raises(ClipinError, match="no checkpoint"):
        run.model  # noqa: B018


def test_a_finished_run_returns_at_once_and_has_its_model(finished, capsys):
    run = clipin_jax.train(CONFIG, finished)
    assert capsys.readouterr().err == f"clipin: {finished} is already done\n"
    assert run.finished and run.workdir == str(finished)
    assert dict(run.scores) == {"retrieval/mean_recall": 0.2}
    assert run.model is run.model and len(run.model.encode_text("a star")) == 1
    page = ParsedPage(run.plot()._repr_html_())
    assert "chance" in page.texts and "contrastive/" in page.bold
    with pytest.raises(ClipinError, match="another config .*seed: 0 there, 1 now"):
        clipin_jax.train(run.config, finished, ["seed=1"])
    with pytest.raises(ClipinError, match="did you mean"):
        run.resume(["total_step=8"])


def test_a_run_that_another_process_trains_is_refused(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with own_folder(folder), pytest.raises(ClipinError, match="in use by process"):
        Run(folder).resume(["total_steps=8"])


def test_without_a_folder_a_run_is_named_by_its_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(
        "clipin_jax.notebook.run.train_here", lambda *args, **_: seen.append(args)
    )
    with pytest.raises(ClipinError, match="runs/quickstart_clipin is no run folder"):
        clipin_jax.train("quickstart:clipin", overrides=["total_steps=7"])
    [(config, folder)] = seen
    assert (config.total_steps, folder) == (7, "runs/quickstart_clipin")
    with pytest.raises(ClipinError, match="give a workdir"):
        clipin_jax.train("quickstart", overrides=["name=''"])
