"""The loop: files of a run, resuming, signals, failures."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

import jax
import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import to_json, with_defaults
from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.runs import folder as run_folder
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.owner import own_folder
from clipin_jax.training import loop
from tests.support import tiny_runs

CHILD = """
import sys
import tests.conftest
from tests.support import tiny_runs
sys.exit(tiny_runs.run_command_with_signal())
"""


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.mark.slow
def test_views_made_on_the_device_train_like_views_of_the_host(straight, tmp_path):
    device = "data.augment_on=device", "data.augment.resize_first=32"
    config = tiny_runs.tiny_run(*device, "health_every_steps=0")
    folder = tmp_path / "run"
    with tiny_runs.signal_at(3, signal.SIGTERM):
        assert loop.train(config, folder) == REQUEUE
    assert loop.train(config, folder) == DONE
    losses = [
        [row["train/loss"] for row in tiny_runs.metric_rows(run) if "train/loss" in row]
        for run in (straight, folder)
    ]
    # Pixels differ by a level here and there.
    np.testing.assert_allclose(*losses, rtol=2e-3)
    assert (folder / "examples" / "pair0_view2.png").is_file()


def test_a_run_writes_its_files(straight, config):
    rows = tiny_runs.metric_rows(straight)
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == list(range(1, tiny_runs.LAST + 1))
    cut = [row["train/cut_captions"] for row in rows if "train/loss" in row]
    assert all(0 < share < 1 for share in cut)  # of captions longer than 16 tokens
    assert [r["step"] for r in rows if "retrieval/text_to_image_R@1" in r] == [4, 6]
    health = "health/clipin/image_to_image/alignment"
    assert [row["step"] for row in rows if health in row] == [4]
    assert sorted(p.name for p in (straight / "checkpoints").iterdir()) == [*"246"]
    state, position = tiny_runs.load_state(config, straight, tiny_runs.LAST)
    assert state.target_params and state.target_collections and state.collections
    assert position["position"] == tiny_runs.LAST * config.batch_size
    assert (straight / "config.json").read_text() == to_json(with_defaults(config))
    environment = json.loads((straight / "environment.json").read_text())
    assert {"jax", "python", "devices"} <= environment.keys()
    size = json.loads((straight / "size.json").read_text())
    assert size["parameters"] == sum(x.size for x in jax.tree.leaves(state.params))
    assert {"pairs.json", "pair0_view1.png", "pair0_view2.png"} <= {
        path.name for path in (straight / "examples").iterdir()
    }


@pytest.mark.parametrize(
    "step, number",
    [
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
        (4, signal.SIGTERM),
        (5, signal.SIGINT),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    config, straight, tmp_path, capfd, step, number
):
    before = signal.getsignal(number)
    with tiny_runs.signal_at(step, number):
        if number == signal.SIGINT:  # ends a loop over runs, too
            with pytest.raises(KeyboardInterrupt):
                loop.train(config, tmp_path)
        else:
            assert loop.train(config, tmp_path) == REQUEUE
    assert f"saved at step {step}, stopping" in capfd.readouterr().err
    assert not (tmp_path / "DONE").exists()
    _, position = tiny_runs.load_state(config, tmp_path, step)
    assert position["position"] == step * config.batch_size
    assert signal.getsignal(number) == before

    assert loop.train(config, tmp_path) == DONE
    assert f"resumed at step {step}" in capfd.readouterr().err
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_stopped_before_the_first_and_after_the_last_step(
    config, straight, tmp_path, monkeypatch
):
    def build(config: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return built(config)

    built = loop.build_experiment
    with monkeypatch.context() as patch:
        patch.setattr(loop, "build_experiment", build)
        assert loop.train(config, tmp_path) == REQUEUE
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["0"]
    with tiny_runs.signal_at(tiny_runs.LAST, signal.SIGTERM):
        assert loop.train(config, tmp_path) == REQUEUE
    assert not (tmp_path / "eval").exists()
    assert loop.train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_a_second_ctrl_c_stops_at_once(config, straight, tmp_path, monkeypatch):
    with tiny_runs.signal_at(3, signal.SIGINT), monkeypatch.context() as patch:
        save = Checkpoints.save

        def interrupted(self: Any, *args: Any, force: bool = False) -> bool:
            if force:
                os.kill(os.getpid(), signal.SIGINT)
            return save(self, *args, force=force)

        patch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(ClipinError, match="stopped at once, without saving"):
            loop.train(config, tmp_path)
    assert loop.train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


@pytest.mark.slow
def test_killed_between_checkpoints(config, straight, tmp_path, repository):
    run_folder.open_folder(config, tmp_path)
    command = [sys.executable, "-c", CHILD, "SIGKILL@5", "train", str(tmp_path)]
    killed = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert max(row["step"] for row in tiny_runs.metric_rows(tmp_path)) == 5
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "ti')  # what a crash may leave
    assert loop.train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_the_command_stops_with_75_and_then_finishes_with_0(
    config, straight, tmp_path, capfd
):
    run_folder.open_folder(config, tmp_path)
    command = ["train", str(tmp_path)]
    with tiny_runs.signal_at(3, signal.SIGINT):
        assert main(command) == 75
    assert "saved at step 3, stopping\n" in capfd.readouterr().err
    assert main(command) == 0
    tiny_runs.assert_same_run(config, straight, tmp_path)


def patch_evaluation(monkeypatch: pytest.MonkeyPatch, before: Any) -> None:
    """Calls a function at the start of each evaluation."""
    run = Retrieval.run

    def patched(self: Any, state: Any) -> Any:
        before()
        return run(self, state)

    monkeypatch.setattr(Retrieval, "run", patched)


@pytest.mark.parametrize(
    "step", [4, pytest.param(tiny_runs.LAST, marks=pytest.mark.slow)]
)
def test_a_signal_ends_an_evaluation_of_a_saved_model(
    config, straight, tmp_path, monkeypatch, step
):
    evaluations = []

    def interrupt() -> None:
        evaluations.append(max(row["step"] for row in tiny_runs.metric_rows(tmp_path)))
        if evaluations[-1] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch_evaluation(patch, interrupt)
        assert loop.train(config, tmp_path) == REQUEUE
    assert evaluations[-1] == step
    tiny_runs.load_state(config, tmp_path, step)
    assert loop.train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


@pytest.mark.parametrize(
    "step", [4, pytest.param(tiny_runs.LAST, marks=pytest.mark.slow)]
)
def test_an_evaluation_that_fails_loses_nothing(
    config, straight, tmp_path, monkeypatch, step
):
    def fail() -> None:
        if max(row["step"] for row in tiny_runs.metric_rows(tmp_path)) == step:
            raise ClipinError("record 3 cannot be decoded")

    with monkeypatch.context() as patch:
        patch_evaluation(patch, fail)
        for _ in range(2):  # at every start again, until it is repaired
            with pytest.raises(ClipinError) as error:
                loop.train(config, tmp_path)
            message = f"record 3 .*The model is saved at step {step}, .*evaluation out"
            assert re.search(message, str(error.value))
            tiny_runs.load_state(config, tmp_path, step)
        assert not (tmp_path / "DONE").exists()
        without = tiny_runs.tiny_run("evals={}")
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path, folder)
        assert loop.train(without, folder) == DONE  # leaves it out
    assert loop.train(config, tmp_path) == DONE  # it was repaired
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_a_folder_in_use_is_refused(config, tmp_path):
    with own_folder(tmp_path), pytest.raises(ClipinError, match="is in use by process"):
        loop.train(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_before_a_checkpoint_may_begin_anew(
    config, straight, tmp_path
):
    run_folder.open_folder(tiny_runs.tiny_run("seed=7"), tmp_path)
    (tmp_path / "bad_records.jsonl").write_text("of other data")
    (tmp_path / "checkpoints").mkdir()
    assert loop.train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_a_finished_run_is_left_alone(config, straight, capsys):
    before = tiny_runs.read_files(straight)
    assert loop.train(config, straight) == DONE
    assert capsys.readouterr().err == f"clipin: {straight} is already done\n"
    assert tiny_runs.read_files(straight) == before
    with pytest.raises(ClipinError, match="another config .*seed: 0 there, 1 now"):
        loop.train(tiny_runs.tiny_run("seed=1"), straight)
    assert tiny_runs.read_files(straight) == before


@pytest.mark.parametrize("damaged", [[4], [4, 2]])
def test_a_damaged_checkpoint(config, straight, tmp_path, caplog, damaged):
    with tiny_runs.signal_at(5, signal.SIGTERM):
        loop.train(config, tmp_path)
    for step in (5, *damaged):
        files = (tmp_path / "checkpoints" / str(step) / "state").rglob("*")
        largest = max(files, key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-100])
    if 2 in damaged:
        with pytest.raises(ClipinError, match="every checkpoint .* is damaged"):
            loop.train(config, tmp_path)
        return
    assert loop.train(config, tmp_path) == DONE
    assert "going back to the one of step 2" in caplog.text
    tiny_runs.assert_same_run(config, straight, tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Lets the loss of these steps be no number."""
    build = loop.build_experiment

    def poisoned(config: Any) -> Any:
        run = build(config)

        def hyper(step: int) -> Any:
            numbers = run.hyper(step)
            weights = numbers["objectives"]["contrastive"]
            if step + 1 in steps:
                weights["weight"] = np.full_like(weights["weight"], np.nan)
            return numbers

        return dataclasses.replace(run, hyper=hyper)

    monkeypatch.setattr(loop, "build_experiment", poisoned)
    # A schedule that gives NaN is refused before step 1; here it stands for a loss.
    monkeypatch.setattr(loop, "check_values", lambda experiment: None)


def test_losses_that_are_not_finite(config, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, {2, 4, 5})
    with pytest.raises(ClipinError) as stopped:
        loop.train(config, tmp_path)
    err = capsys.readouterr().err
    assert "step 2: not finite, update skipped" in err and "step 3: not" not in err
    report = json.loads((tmp_path / "nonfinite_batches.json").read_text())
    assert report["step"] == 5 and len(report["batches"]) == 2
    batches = loop.TrainBatches(config.data, seed=0, batch_size=16)
    expected = [next(batches)["index"].tolist() for _ in range(5)]
    batches.close()
    assert report["batches"] == expected[3:5]
    for message in ("in 2 steps in a row", "step 5;", str(expected[4][:8])):
        assert message in str(stopped.value)
    state, _ = tiny_runs.load_state(config, tmp_path, 4)
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (2, 1)


def test_a_full_disk_while_saving(config, straight, tmp_path, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small disk")
    try:
        with tiny_runs.signal_at(2, signal.SIGTERM):
            assert loop.train(config, disk / "run") == REQUEUE
        filling = disk / "filling"
        with filling.open("wb") as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        before = (disk / "run" / "config.json").read_text()
        with pytest.raises(ClipinError, match="No space|disk is full"):
            loop.train(config, disk / "run")
        assert "Traceback" not in capfd.readouterr().err
        assert (disk / "run" / "config.json").read_text() == before
        assert not (disk / "run" / "owner.json").exists()  # so that a restart may begin
        filling.unlink()
        assert loop.train(config, disk / "run") == DONE
        tiny_runs.assert_same_run(config, straight, disk / "run")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_training_in_a_thread_without_signals(config, straight, tmp_path):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(loop.train(config, tmp_path)))
    thread.start()
    thread.join()
    assert codes == [DONE]
    tiny_runs.assert_same_run(config, straight, tmp_path)
