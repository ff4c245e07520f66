"""Whole runs of two processes, started as users start them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.support.pair_folders import pair_folder

TINY = (
    "batch_size=16", "total_steps=6", "log_every_steps=1",
    "model.image.width=32", "model.image.depth=1", "model.text.width=32",
    "model.text.depth=1", "data.source.length=64", "evals.linear_probe=None",
    "evals.retrieval=None", "evals.zero_shot_color=None", "evals.zero_shot_shape=None",
    "log.tensorboard=false", "checkpoint.every_steps=3", "health_every_steps=3",
)  # fmt: skip


class Process:
    """A process that trains, and the lines that it prints."""

    def __init__(self, arguments, folder, repository):
        environ = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(repository)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clipin_jax", "train", *arguments],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            cwd=folder, env=environ,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def wait_for(self, text, seconds=500):
        end = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert time.monotonic() < end and self._process.poll() is None, self.lines
            time.sleep(0.05)

    def send(self, number):
        self._process.send_signal(number)

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def end(self, seconds=500):
        """Waits; returns its exit code and the lines that say what is wrong."""
        try:
            code = self._process.wait(timeout=seconds)
        finally:
            self.kill()
        return code, [line for line in self.lines if "error" in line]


@pytest.fixture
def start(tmp_path, repository):
    started = []

    def one(config, *arguments):
        started.append(Process((config, *arguments), tmp_path, repository))
        return started[-1]

    yield one
    for process in started:
        process.kill()


@pytest.fixture
def pair(start):
    """Starts two processes of a run; arguments of each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def both(*arguments, own=(("quickstart:runlocal", *TINY),) * 2):
        place = ("--workdir", "run", "--coordinator", f"127.0.0.1:{port}")
        return [
            start(
                *own[index], *arguments, *place,
                "--processes", "2", "--process", str(index),
            )
            for index in range(2)
        ]  # fmt: skip

    return both


def losses(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.slow
@pytest.mark.parametrize("options", ["runlocal", "runlocal,clipin"])
def test_two_processes_equal_one(start, tmp_path, options):
    for count in ("1", "2"):
        place = ("--workdir", f"run{count}", "--local-processes", count)
        assert start(f"quickstart:{options}", *TINY, *place).end() == (0, [])
    one, two = losses(tmp_path / "run1"), losses(tmp_path / "run2")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)


def test_two_processes_with_other_configs(pair):
    first, second = pair(
        own=[("quickstart:runlocal", *TINY, *more) for more in ((), ("seed=7",))]
    )
    code, [line] = first.end(seconds=120)
    assert code == 78
    assert "process 1 (host " in line and "config seed is 7, not 0: start all" in line
    assert second.end(seconds=30) == (78, [])  # process 0 has said it


@pytest.mark.slow
def test_two_processes_with_other_data(pair, tmp_path):
    own = []
    for count in (32, 33):
        folder = pair_folder(tmp_path / str(count), [("a cat",)] * count)
        own.append((f"clip:data={folder},small", "batch_size=4", "evals={}"))
    first, second = pair(own=own)
    code, [line] = first.end()
    assert code == 78 and "number of records is 33, not 32" in line
    assert second.end(seconds=30) == (78, [])


LONG = ("total_steps=100000", "log_every_steps=50000", "checkpoint.every_steps=0")


@pytest.mark.slow
def test_sigterm_for_one_process_saves_all(pair, tmp_path):
    first, second = pair(*LONG)
    first.wait_for("captions are longer")  # after the first step
    second.send(signal.SIGTERM)
    assert first.end(seconds=60) == (75, []) and second.end(seconds=60) == (75, [])
    [saved] = [line for line in first.lines if "saved at step" in line]
    step = int(saved.split("step")[1].split(",")[0])
    assert 0 < step < 50000
    assert (tmp_path / "run" / "checkpoints" / str(step) / "manifest.json").exists()


def evaluator(length):
    source = dict(name="scenes", split="val", length=length, size=32, captions=1)
    return dict(type="retrieval", every_steps=3, batch_size=32, source=source)


@pytest.mark.slow
def test_sigterm_in_an_evaluation_leaves_it_before_the_next_evaluator(pair, tmp_path):
    evals = f"evals.first={evaluator(4000)}", f"evals.second={evaluator(32)}"
    first, second = pair(*evals)
    first.wait_for("evaluation at step 3")
    second.send(signal.SIGTERM)
    assert first.end(seconds=100) == (75, []) and second.end(seconds=60) == (75, [])
    assert any("saved at step 3, stopping" in line for line in first.lines)
    rows = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert not any(key.startswith("first/") for row in rows for key in row)
    assert [process.end()[0] for process in pair(*evals)] == [0, 0]


@pytest.mark.slow
def test_a_process_is_killed(pair):
    first, second = pair(*LONG)
    first.wait_for("captions are longer")  # after the first step
    second.send(signal.SIGKILL)
    code, [line] = first.end(seconds=90)
    assert code == 1
    assert line.startswith("clipin: error: process 1 (host ")
    assert "has not answered for 10 s" in line


@pytest.mark.slow
def test_the_first_process_is_killed(pair):
    first, second = pair(*LONG)
    first.wait_for("captions are longer")  # after the first step
    first.send(signal.SIGKILL)
    code, lines = second.end(seconds=90)
    assert code == 1 and "most likely as process 0 (host " in lines[-1]
