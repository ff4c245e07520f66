import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import to_json
from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError
from clipin_jax.inference.build import open_run
from clipin_jax.report import write_report
from clipin_jax.runs.checkpoint_tools.average import average_checkpoints
from clipin_jax.training.evaluate import evaluate
from clipin_jax.training.interpolation import evaluate_interpolated, interpolate
from clipin_jax.training.loop import train
from tests.support import tiny_runs


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


def make_state(value: float) -> TrainState:
    """A state whose arrays have one value, in several dtypes."""
    params = {"full": jnp.full(3, value), "half": jnp.full(2, value, jnp.bfloat16)}
    place = {"queue": {"place": jnp.asarray(int(value))}}
    step = jnp.asarray(int(value))
    return TrainState(
        step=step, skipped=step, skipped_in_a_row=step, opt_state=None,
        params=params, collections=place,
        target_params=params, target_collections=place,
    )  # fmt: skip


def test_weights_are_mixed_and_counters_kept():
    mixed = interpolate(make_state(4.0), make_state(8.0), 0.25)
    for params in (mixed.params, mixed.target_params):
        assert params["half"].dtype == jnp.bfloat16
        assert np.all(params["full"] == 7) and np.all(params["half"] == 7)
    assert mixed.step == 4 and mixed.collections["queue"]["place"] == 4


def test_the_ends_have_the_scores_of_the_checkpoints(straight, tmp_path, capsys):
    output = tmp_path / "scores.json"
    rows = evaluate_interpolated(
        straight, (0, 0.5, 1), other=f"{straight}@4", output=output
    )
    capsys.readouterr()
    assert rows[1] == evaluate(straight, output=tmp_path / "6.json")
    assert rows[0] == evaluate(straight, step=4, output=tmp_path / "4.json")
    assert rows[0] != rows[0.5] != rows[1]
    written = json.loads(output.read_text())
    assert written["step"] == 6
    assert written["with"] == {"run": str(straight), "step": 4}
    assert written["rows"] == [{"alpha": alpha, **rows[alpha]} for alpha in rows]


def test_the_middle_is_the_mean_of_both(straight, tmp_path):
    average_checkpoints(tmp_path / "soup", [str(straight), f"{straight}@4"])
    soup, step = open_run(tmp_path / "soup").restore()
    run = open_run(straight)
    ends = run.restore()[0], run.restore(4)[0]
    assert step == 6 and soup.opt_state is None and ends[0].opt_state is None
    between = interpolate(*ends, 0.5)
    assert jax.tree.structure(soup) == jax.tree.structure(between)
    for x, y in zip(jax.tree.leaves(soup), jax.tree.leaves(between), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-6, atol=1e-9)


def test_a_mean_is_evaluated_and_reported_but_not_trained(straight, config, tmp_path):
    average_checkpoints(tmp_path / "copy", [str(straight)])
    scores = evaluate(tmp_path / "copy")
    assert scores == evaluate(straight, output=tmp_path / "scores.json")
    page = write_report([tmp_path / "copy"], tmp_path / "page.html").read_text()
    assert "not finished" not in page
    with pytest.raises(ClipinError, match="without the state of an optimizer"):
        train(config, tmp_path / "copy")


def test_the_command_prints_a_row_for_each(straight, tmp_path, capsys):
    run = shutil.copytree(straight, tmp_path / "run")
    shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "0")
    assert main(["evaluate", str(run), "--interpolate", "0,0.25", "--step", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"clipin: alpha x {run}@4 + (1 - alpha) x {run}@0"
    assert [line.split()[0] for line in lines[2:6]] == ["alpha", "0", "0.25", "chance"]
    assert lines[-1] == f"clipin: written to {run}/eval/4-interpolated.json"


def test_another_model_is_refused(straight, tmp_path):
    config = tiny_runs.tiny_run("model.image.activation=gelu")
    other = shutil.copytree(straight, tmp_path / "other")
    (other / "config.json").write_text(to_json(config))
    with pytest.raises(ClipinError, match="different models: model.image.activation"):
        evaluate_interpolated(straight, (0.5,), other=str(other))


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--interpolate", "0.5"], "has no checkpoint of step 0"),
        (["--interpolate", "1.5"], "--interpolate is 1.5"),
        (["--interpolate", "nan"], "--interpolate is nan"),
        (["--interpolate", "1", "--with", "RUN@5"], "no checkpoint of step 5"),
        (["--interpolate", "1", "--suite", "core"], "leave --suite"),
        (["--with", "RUN"], "add --interpolate"),
    ],
)
def test_a_mistake_is_one_line(straight, argv, words, capsys):
    argv = [word.replace("RUN", str(straight)) for word in argv]
    assert main(["evaluate", str(straight), *argv]) == 78
    captured = capsys.readouterr()
    assert captured.err.startswith("clipin: error: ") and words in captured.err
    assert captured.err.count("\n") == 1
