"""Faults while a run saves and evaluates: it ends as an undisturbed one does."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.runs import folder as run_folder
from clipin_jax.training import loop
from tests.support import faults, tiny_runs

CHILD = """
import sys
import tests.conftest
from tests.support import faults
sys.exit(faults.run_command_with_fault())
"""
IN_PROCESS = ("SIGTERM", "full", "error")
EVERY = 2  # `checkpoint.every_steps` of tiny runs


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def config():
    return tiny_runs.tiny_run()


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory) -> Path:
    """The folder of a run that was never disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert loop.train(config, folder) == DONE
    return folder


def newest(folder: Path) -> int:
    """Returns the newest complete checkpoint, 0 if there is none."""
    paths = folder.glob("checkpoints/*/manifest.json")
    return max(
        (int(p.parent.name) for p in paths if p.parent.name.isdigit()), default=0
    )


def steps_taken(folder: Path) -> int:
    """Returns the last step that was logged completely."""
    steps = [0]
    if (folder / "metrics.jsonl").is_file():
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            steps.append(json.loads(line)["step"] if line.endswith("}") else 0)
    return max(steps)


def train_with_fault(config, folder: Path, fault: faults.Fault) -> bool:
    """Trains; returns whether the fault happened."""
    with faults.injected(fault) as happened:
        try:
            assert loop.train(config, folder) in (DONE, REQUEUE)
        except (ClipinError, OSError, RuntimeError):
            assert happened
    return bool(happened)


def check_end(config, straight: Path, folder: Path, most_lost: int = EVERY) -> None:
    """Nothing is lost beyond some steps; the next start ends the run."""
    assert steps_taken(folder) - newest(folder) <= most_lost
    assert not list(folder.glob("owner.json*"))
    assert loop.train(config, folder) == DONE
    tiny_runs.assert_same_end(config, straight, folder)


# Seven here and three below in the usual tests; fifty more are marked slow.
SEEDS = [*range(7), *(pytest.param(n, marks=pytest.mark.slow) for n in range(7, 47))]
KILLED = [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 13))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fault_of_the_process(config, straight, tmp_path, seed):
    fault = faults.draw_fault(seed, IN_PROCESS)
    train_with_fault(config, tmp_path, fault)
    check_end(config, straight, tmp_path)


@pytest.mark.parametrize("seed", KILLED)
def test_a_killed_process(config, straight, tmp_path, repository, seed):
    run_folder.open_folder(config, tmp_path)
    command = [sys.executable, "-c", CHILD, str(seed), "train", str(tmp_path)]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert ended.returncode in (-signal.SIGKILL, DONE), ended.stderr
    (tmp_path / "owner.json").unlink(missing_ok=True)  # replaced by the next start
    # A checkpoint that was being written in the background is lost, too.
    check_end(config, straight, tmp_path, most_lost=2 * EVERY)


@pytest.mark.parametrize("boundary", faults.BOUNDARIES)
def test_every_boundary_is_passed(config, straight, tmp_path, boundary):
    """A fault that never happens would test nothing."""
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    (tmp_path / "DONE").unlink()
    fault = faults.Fault(boundary, call=1, after=False, kind="error")
    assert train_with_fault(config, tmp_path, fault)
