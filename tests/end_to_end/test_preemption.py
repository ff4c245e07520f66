"""SIGTERM at any moment, twice: the next start goes on, and the end is the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clipin_jax.commands import main as cli
from clipin_jax.commands import train as train_command
from clipin_jax.errors import DONE, REQUEUE
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.runs.interrupt import Interrupted, catch_interrupt
from clipin_jax.training import loop
from tests.support import tiny_runs

CHILD = """
import sys
import tests.conftest
from clipin_jax.commands.main import main
from tests.support import tiny_runs
with tiny_runs.on_one_device():
    sys.exit(main(sys.argv[1:]))
"""


def test_a_signal_before_the_run_begins(monkeypatch):
    """There is nothing to save, and the same command goes on."""

    def load(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train_command, "load_config", load)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", tiny_runs.CONFIG])
    assert ended.value.code == REQUEUE
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_does_not_disturb_the_end_of_an_evaluation(capfd):
    with catch_interrupt("notice\n") as interrupt:
        with pytest.raises(Interrupted), interrupt.raising():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                ended = True
        assert ended and interrupt.is_set()
    assert capfd.readouterr().err == "notice\n"


def test_signals_while_the_last_step_is_saved_and_evaluated(tmp_path, monkeypatch):
    """The run is saved; its last evaluation is repeated by the next start."""
    config = tiny_runs.tiny_run()
    run, save = Retrieval.run, loop.Checkpoints.save

    def signal_then(function):
        def signalled(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return function(*args, **kwargs)

        return signalled

    with tiny_runs.on_one_device(), monkeypatch.context() as patch:
        patch.setattr(loop.Checkpoints, "save", signal_then(save))
        patch.setattr(Retrieval, "run", signal_then(run))
        starts = 0
        while loop.train(config, tmp_path / "run") != DONE and starts < 20:
            starts += 1
            if starts == 5:
                patch.undo()
    with tiny_runs.on_one_device():
        assert loop.train(config, tmp_path / "straight") == DONE
        tiny_runs.assert_same_end(config, tmp_path / "straight", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_two_signals_at_random_moments(tmp_path, repository, seed):
    """The second comes up to two seconds after the first one, as schedulers send it."""
    config = tiny_runs.tiny_run()
    rng, run = np.random.default_rng(seed), tmp_path / "run"
    command = [sys.executable, "-c", CHILD, "train", tiny_runs.CONFIG]
    command += [*tiny_runs.TINY, "--workdir", str(run)]
    longest = time_of(command[:-1] + [str(tmp_path / "straight")], repository)
    codes = []
    for _ in range(3):
        child = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE)
        for wait in (rng.uniform(0, longest), rng.uniform(0, 2)):
            time.sleep(wait)
            child.send_signal(signal.SIGTERM)
        errors = child.communicate(timeout=300)[1].decode()
        # Before Python runs our code, the system ends the process.
        assert child.returncode in (DONE, REQUEUE, -signal.SIGTERM), errors
        assert "Traceback" not in errors
        codes.append(child.returncode)
    assert subprocess.run(command, cwd=repository, timeout=600).returncode == DONE
    with tiny_runs.on_one_device():
        tiny_runs.assert_same_end(config, tmp_path / "straight", run)


def time_of(command: list[str], folder: Path) -> float:
    """Returns the seconds that a command takes, which must succeed."""
    start = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.monotonic() - start
