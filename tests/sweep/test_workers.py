"""Several workers on one folder, and processes that are killed at any moment."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from clipin_jax.sweep.definition import Sweep, open_home
from clipin_jax.sweep.outcomes import Point, collect_points
from clipin_jax.sweep.sweep_file import load_sweep, typed_items
from tests.support.tiny_sweep import DECAY, METRIC, RATE, ends_in_logs, write_config

pytestmark = pytest.mark.slow
_START = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
_KILLS = 10


@pytest.fixture(autouse=True)
def one_device(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("XLA_FLAGS", "")
    yield


@pytest.fixture
def words(tmp_path) -> list[str]:
    config = str(write_config(tmp_path))
    return ["sweep", config, f"{RATE}=1e-4,3e-4,1e-3,3e-3", f"{DECAY}=0,0.1,0.2,0.3"]


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _START, *words], start_new_session=True
    )


def sweep_of(words: list[str]) -> Sweep:
    return load_sweep(words[1], typed_items(words[2:]), {"metric": METRIC})


def children(process: int) -> list[int]:
    text = subprocess.run(
        ["pgrep", "-P", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return [int(word) for word in text.split()]


def scores(points: list[Point]) -> dict[str, list[float | None]]:
    return {point.folders[0]: point.values for point in points}


def test_four_workers_train_each_of_16_points_once(words, tmp_path):
    home = tmp_path / "home"
    sweep = sweep_of(words)
    open_home(sweep, home)
    workers = [start("sweep", "--worker", str(home)) for _ in range(4)]
    assert [worker.wait(timeout=1800) for worker in workers] == [0] * 4
    points = collect_points(sweep, home)
    assert [point.state for point in points] == ["done"] * 16
    ends = ends_in_logs(home)
    assert len(ends) == 16 and set(ends.values()) == {1}


def test_a_sweep_that_is_killed_at_random_ends_as_an_undisturbed_one(words, tmp_path):
    words[3] = f"{DECAY}=0,0.1"
    sweep = sweep_of(words)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    options = ["--metric", METRIC, "--jobs", "2", "--workdir"]
    assert start(*words, *options, str(calm)).wait(timeout=1800) == 0
    chance = random.Random(0)
    for _ in range(_KILLS):
        process = start(*words, *options, str(rough))
        time.sleep(chance.uniform(4, 30))
        victims = [process.pid, *children(process.pid)]
        for victim in victims if chance.random() < 0.5 else [chance.choice(victims)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if process.poll() is None:
            time.sleep(chance.uniform(0, 5))
            process.kill()
        process.wait()
    assert start(*words, *options, str(rough)).wait(timeout=1800) == 0
    points = collect_points(sweep, rough)
    assert [point.state for point in points] == ["done"] * 8
    assert scores(points) == scores(collect_points(sweep, calm))
    assert len(list((rough / "points").iterdir())) == 8
