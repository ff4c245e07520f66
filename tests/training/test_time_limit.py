"""`--max-time`: a run stops by itself, early enough to save."""

import math
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from clipin_jax.errors import DONE, ClipinError
from clipin_jax.runs.goodput import read_goodput
from clipin_jax.runs.interrupt import Interrupt, catch_interrupt
from clipin_jax.training import loop
from clipin_jax.training.time_limit import needed_seconds, parse_seconds, stop_before
from tests.support import tiny_runs


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("600", 600), ("1.5", 1.5), ("3h50m", 13800), ("1d", 86400), ("90m", 5400),
        ("1h5s", 3605),
    ],
)  # fmt: skip
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "3:50", "50m3h", "3 h", "soon", "0m"])
def test_wrong_times(text):
    with pytest.raises(ClipinError, match="--max-time is .*: give seconds, or .*3h50m"):
        parse_seconds(text)


def test_the_time_to_stop_grows_with_steps_and_saves():
    state = {"x": np.zeros(25_000_000, np.float32)}
    goodput = SimpleNamespace(longest_step=0.0)
    checkpoints = SimpleNamespace(longest_save=0.0)
    assert needed_seconds(goodput, checkpoints, state) == 5 + 1.5 * 1
    goodput.longest_step, checkpoints.longest_save = 4.0, 20.0
    assert needed_seconds(goodput, checkpoints, state) == 5 + 1.5 * 24


def test_it_stops_as_a_signal_does():
    with (
        catch_interrupt() as interrupt,
        stop_before(time.monotonic() + 1.0, interrupt, lambda: 0.5),
    ):
        for _ in range(100):
            if interrupt.is_set():
                break
            time.sleep(0.05)
        assert interrupt.signal == signal.SIGTERM


def test_no_limit_and_no_signals():
    interrupt = Interrupt()  # as in a thread that is not the main one
    with stop_before(math.inf, interrupt, lambda: 0.0):
        assert not interrupt.is_set()
    with stop_before(0.0, interrupt, lambda: 0.0):
        pass
    assert interrupt.is_set()


def test_a_limit_that_leaves_no_time_for_a_step_is_an_error(tmp_path, capfd):
    """It would be requeued for ever. The same command with more time goes on."""
    config = tiny_runs.tiny_run("evals={}")
    with tiny_runs.on_one_device():
        with pytest.raises(ClipinError, match="--max-time left no time for a step"):
            loop.train(config, tmp_path, end=time.monotonic())
        assert loop.train(config, tmp_path) == DONE
    assert "goodput" in capfd.readouterr().err
    summary = read_goodput(tmp_path)
    assert (
        summary is not None and summary.starts == 2 and 0 < summary.shares["step"] < 1
    )
