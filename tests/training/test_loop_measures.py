"""What a run tells of its steps: a profile, transfers, the share of the peak, waits."""

import itertools
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from clipin_jax.errors import DONE, REQUEUE
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.training import loop
from clipin_jax.training.measures import chip_use
from clipin_jax.training.measures.model_flops import step_flops
from tests.support import tiny_runs


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


SHORT = ("health_every_steps=0", "evals={}", "checkpoint.every_steps=0")


def traced_steps(folder: Path) -> set[int]:
    """Returns the steps that the trace in a folder names."""
    [trace] = folder.rglob("*.xplane.pb")
    assert trace.relative_to(folder).parts[:3] == ("profile", "plugins", "profile")
    space = jax.profiler.ProfileData.from_file(str(trace))
    events = [event for p in space.planes for line in p.lines for event in line.events]
    names = {event.name for event in events}
    assert {"data", "metrics"} <= names
    steps = [dict(event.stats) for event in events if event.name == "train"]
    return {int(step["step_num"]) for step in steps}


@pytest.mark.slow
def test_a_profile_of_a_resumed_run_that_is_stopped_within(tmp_path, capfd):
    config = tiny_runs.tiny_run(*SHORT)
    command = "2:5"
    with tiny_runs.signal_at(1, signal.SIGTERM):
        assert loop.train(config, tmp_path, profile=command) == REQUEUE
    assert not (tmp_path / "profile").exists()
    assert "ended with step 1, before step 2" in capfd.readouterr().err
    with tiny_runs.signal_at(3, signal.SIGTERM):
        assert loop.train(config, tmp_path, profile=command) == REQUEUE
    assert f"steps 2 to 3 are in {tmp_path}/profile" in capfd.readouterr().err
    assert traced_steps(tmp_path) == {2, 3}
    shutil.rmtree(tmp_path / "profile")
    assert loop.train(config, tmp_path, profile=command) == DONE
    assert traced_steps(tmp_path) == {4, 5}
    assert "profile" not in (tmp_path / "config.json").read_text()
    assert loop.train(config, tmp_path, profile="9" * 3) == DONE


def test_a_transfer_that_nobody_asked_for_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.StepInputs, "hyper", lambda self, step: hyper(step))
    hyper = loop.build_experiment(tiny_runs.tiny_run(*SHORT)).hyper
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        loop.train(tiny_runs.tiny_run(*SHORT), tmp_path)


def test_the_share_of_the_peak_where_it_is_known(straight, tmp_path, monkeypatch):
    assert not any("train/mfu" in row for row in read_metrics(straight))
    monkeypatch.setattr(chip_use, "peak_flops", lambda kind, cores: 1e12)
    monkeypatch.setattr(chip_use, "_peak_memory_bytes", lambda: 3 * 2**29)
    config = tiny_runs.tiny_run(*SHORT)
    assert loop.train(config, tmp_path) == DONE
    run = loop.build_experiment(config)
    with jax.set_mesh(run.mesh):
        flops = step_flops(loop.jit_train_step(run), run)
    rows = read_metrics(tmp_path)
    for row in rows:
        share = flops * row["train/images_per_second"] / config.batch_size / 1e12
        assert row["train/mfu"] == pytest.approx(share)
        assert row["train/peak_memory_gib"] == 1.5
        assert 0 <= row["train/device_idle_fraction"] <= 1
    assert len(rows) == tiny_runs.LAST


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_devices_that_wait_for_data_are_told(tmp_path, monkeypatch, capfd, seconds):
    def slow(batches: Any) -> Any:
        if not made:
            made.append(read(batches))
        time.sleep(seconds if next(steps) else 0)
        return dict(made[0])

    made: list[Any] = []
    steps, read = itertools.count(), loop.TrainBatches.__next__
    monkeypatch.setattr(loop.TrainBatches, "__next__", slow)
    longer = "total_steps=24", "optim.learning_rate.warmup_steps=1"
    assert loop.train(tiny_runs.tiny_run(*SHORT, *longer), tmp_path) == DONE
    told = capfd.readouterr().err.count("the devices waited for data")
    assert told == (1 if seconds else 0)
    idle = [row["train/device_idle_fraction"] for row in read_metrics(tmp_path)]
    if seconds:
        assert np.median(idle) > 0.2
