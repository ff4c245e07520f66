import json

import pytest

from clipin_jax.commands.main import main
from clipin_jax.errors import ClipinError
from clipin_jax.training.evaluate import evaluate
from tests.support import tiny_runs


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


def test_evaluating_again_gives_the_scores_of_the_run(straight, capsys):
    path = straight / "eval" / f"{tiny_runs.LAST}.json"
    during = path.read_text()
    path.unlink()
    values = evaluate(straight)
    assert path.read_text() == during
    assert json.loads(during)["scores"] == values
    out = capsys.readouterr().out
    assert "evaluation at step 6" in out and f"written to {path}" in out
    assert "retrieval/text_to_image_R@1" in out and "(chance 3.1%)" in out


def test_records_have_the_keys_of_clip_benchmark(straight):
    results = json.loads((straight / "eval" / f"{tiny_runs.LAST}.json").read_text())
    assert json.loads((straight / "figures.json").read_text()) == results["figures"]
    trials = results["figures"]["retrieval/text_to_image_R@1"]["trials"]
    assert trials == 1 / results["scores"]["retrieval/chance/image_to_text_R@1"]
    record = results["evals"]["retrieval"]
    assert record["dataset"] == "scenes" and record["model"] == "clip_clipin"
    assert record["pretrained"] == "straight/6"
    assert record["task"] == "zeroshot_retrieval"
    assert {"image_retrieval_recall@5", "text_retrieval_recall@5"} <= set(
        record["metrics"]
    )


def test_another_step_and_another_file(straight, tmp_path, capsys):
    before = tiny_runs.read_files(straight)
    values = evaluate(straight, step=4, output=tmp_path / "new" / "scores.json")
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written["step"] == 4 and written["scores"] == values
    rows = [row for row in tiny_runs.metric_rows(straight) if row["step"] == 4]
    [row] = [row for row in rows if values.keys() <= row.keys()]
    assert {key: row[key] for key in values} == values
    assert tiny_runs.read_files(straight) == before


def test_the_command(straight, tmp_path, capsys):
    output = tmp_path / "scores.json"
    command = ["evaluate", str(straight), "--step", "4", "--output", str(output)]
    assert main(command) == 0
    assert output.is_file() and "evaluation at step 4" in capsys.readouterr().out
    assert main(["evaluate", str(straight), "--step", "5"]) == 78
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no checkpoint of step 5" in error and "2, 4, 6" in error


def test_evaluations_may_be_changed(straight, tmp_path):
    before, output = tiny_runs.read_files(straight), tmp_path / "scores.json"
    changes = ["evals.retrieval.source.length=16", "evals.retrieval.source.seed=5"]
    values = evaluate(straight, output=output, overrides=changes)
    assert values["retrieval/chance/text_to_image_R@1"] == pytest.approx(1 / 16)
    assert main(["evaluate", str(straight), *changes, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["scores"] == values
    assert tiny_runs.read_files(straight) == before
    for wrong in ("model.image.width=3", "seed=1", "evals.retrieval.sorce=3"):
        with pytest.raises(ClipinError, match=wrong.partition("=")[0]):
            evaluate(straight, overrides=[wrong])


def test_invalid_runs_are_errors(straight, tmp_path):
    (tmp_path / "config.json").write_text((straight / "config.json").read_text())
    with pytest.raises(ClipinError, match="no checkpoints"):
        evaluate(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ClipinError, match="has no checkpoint yet"):
        evaluate(tmp_path)
    with pytest.raises(ClipinError, match="cannot write /dev/null/scores.json"):
        evaluate(straight, output="/dev/null/scores.json")
    config = json.loads((straight / "config.json").read_text()) | {"evals": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ClipinError, match="has no evals"):
        evaluate(tmp_path)
