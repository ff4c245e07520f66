"""A finished run goes on when its config is given more steps."""

import shutil
import signal
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.core.schedules import make_schedule
from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.training.loop import train
from tests.support import tiny_runs

MORE = tiny_runs.LAST + 3


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture
def finished(straight, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(straight, tmp_path / "run")


def rates(folder: Path) -> dict[int, float]:
    key = "train/learning_rate"
    return {r["step"]: r[key] for r in tiny_runs.metric_rows(folder) if key in r}


def expected_rates(steps: int, first: int, last: int) -> list[float]:
    spec = tiny_runs.tiny_run(f"total_steps={steps}").optim.learning_rate
    schedule = make_schedule("optim.learning_rate", spec)
    return [schedule(step - 1) for step in range(first, last + 1)]


def test_a_finished_run_goes_on_in_its_folder(finished, capfd):
    before = rates(finished)
    assert main(["train", str(finished), f"total_steps={MORE}"]) == DONE
    err = capfd.readouterr().err
    assert "total_steps also sets optim.learning_rate.total_steps" in err
    assert f"goes on from step {tiny_runs.LAST} to {MORE}" in err
    after = rates(finished)
    assert {step: after[step] for step in before} == before
    new = [after[step] for step in range(tiny_runs.LAST + 1, MORE + 1)]
    assert new == pytest.approx(expected_rates(MORE, tiny_runs.LAST + 1, MORE))
    assert min(new) > 0
    assert (finished / "DONE").is_file() and tiny_runs.scores(finished, MORE)
    assert load_config(str(finished)).optim.learning_rate.total_steps == MORE
    assert main(["train", str(finished)]) == DONE
    assert "already done" in capfd.readouterr().err
    with pytest.raises(ClipinError, match=f"total_steps: {MORE} there"):
        train(tiny_runs.tiny_run(), finished)


def test_a_longer_run_that_is_stopped_is_resumed(finished):
    config = tiny_runs.tiny_run(f"total_steps={MORE}")
    with tiny_runs.signal_at(MORE - 1, signal.SIGTERM):
        assert train(config, finished) == REQUEUE
    assert not (finished / "DONE").exists()
    assert train(config, finished) == DONE
    assert (finished / "DONE").exists()


def test_in_a_new_folder_its_config_begins_a_longer_run(finished, tmp_path):
    argv = ["train", str(finished), f"total_steps={MORE}", "evals={}"]
    assert main([*argv, "--workdir", str(tmp_path / "longer")]) == DONE
    every = expected_rates(MORE, 1, MORE)
    assert list(rates(tmp_path / "longer").values()) == pytest.approx(every)


@pytest.mark.parametrize(
    "override", ["optim.weight_decay=0.5", "batch_size=8", "optim.learning_rate.peak=1"]
)
def test_nothing_else_may_change(finished, override):
    before = tiny_runs.read_files(finished)
    with pytest.raises(ClipinError, match=override.partition("=")[0]):
        train(tiny_runs.tiny_run(f"total_steps={MORE}", override), finished)
    assert tiny_runs.read_files(finished) == before


def test_a_run_that_has_not_taken_its_last_step_keeps_its_length(finished):
    shutil.rmtree(finished / "checkpoints" / str(tiny_runs.LAST))
    (finished / "DONE").unlink()
    with pytest.raises(ClipinError, match="total_steps"):
        train(tiny_runs.tiny_run(f"total_steps={MORE}"), finished)
