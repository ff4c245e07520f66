"""Tiny runs on one device, stopped by real signals."""

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.commands.main import main
from clipin_jax.config import from_json, load_config, to_json
from clipin_jax.inference import build as inference_build
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.folder import open_folder
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.training import loop, run_log
from clipin_jax.training.progress import Progress

CONFIG = "clip:clipin,runlocal"
LAST = 6
# An epoch has 4 batches. Checkpoints are at steps 2, 4, 6, evaluations at 4, 6.
TINY = (
    "batch_size=16",
    f"total_steps={LAST}",
    "log_every_steps=1",
    "health_every_steps=4",
    "max_nonfinite_steps=2",
    "model.image.width=32",
    "model.image.depth=1",
    "model.text.width=32",
    "model.text.depth=1",
    "model.text.context_length=16",
    "data.source.length=64",
    "evals.retrieval.source.length=32",
    "evals.retrieval.every_steps=4",
    "checkpoint.every_steps=2",
    "checkpoint.keep_last=3",
    "log.tensorboard=false",
)
TIMES = ("time",) + tuple(
    f"train/{name}"
    for name in ("images_per_second", "data_wait_fraction", "device_idle_fraction")
)


def tiny_run(*overrides: str) -> ConfigDict:
    """Returns the config of a run of 6 steps that takes seconds."""
    return load_config(CONFIG, (*TINY, *overrides))


@functools.lru_cache(4)
def _build(config: str) -> Experiment:
    return build_experiment(from_json(config).lock(), devices=jax.devices()[:1])


@contextlib.contextmanager
def on_one_device() -> Iterator[None]:
    """Trains and evaluates on one device; equal configs share one `Experiment`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, inference_build):
            patch.setattr(module, "build_experiment", lambda c: _build(to_json(c)))
        yield


def write_run(config: ConfigDict, folder: Path, step: int = LAST) -> None:
    """Writes the folder of a run as training leaves it, with the initial state."""
    open_folder(config, folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    with contextlib.closing(checkpoints):
        state = _build(to_json(config)).init_state()
        checkpoints.save(step, state, {}, force=True)


@contextlib.contextmanager
def signal_at(step: int, number: int) -> Iterator[None]:
    """Sends this process a signal once the run inside has taken a step."""

    class Signals(Progress):
        def update(self, done: int, values: Any) -> None:
            super().update(done, values)
            if done == step:
                os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_log, "Progress", Signals)
        yield


def load_state(config: ConfigDict, folder: Path, step: int) -> Any:
    """Returns the state and the data position of a run's checkpoint."""
    abstract_state = _build(to_json(config)).abstract_state
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    with contextlib.closing(checkpoints):
        return checkpoints.restore(step, abstract_state)


def metric_rows(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl without the keys that depend on a clock."""
    rows = read_metrics(folder)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same_run(config: ConfigDict, folder: Path, other: Path) -> None:
    """Compares two finished runs bit for bit: state, data position, metrics, scores."""
    assert_same_end(config, folder, other)
    assert metric_rows(folder) == metric_rows(other)


def assert_same_end(config: ConfigDict, folder: Path, other: Path) -> None:
    """Compares the ends of two runs bit for bit: state, data position, scores."""
    state, position = load_state(config, folder, config.total_steps)
    other_state, other_position = load_state(config, other, config.total_steps)
    assert position == other_position
    assert jax.tree.structure(state) == jax.tree.structure(other_state)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(other_state), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert scores(folder, config.total_steps) == scores(other, config.total_steps)


def scores(folder: Path, step: int = LAST) -> dict[str, float]:
    """Returns the scores of the last evaluation of a finished run."""
    path = folder / "eval" / f"{step}.json"
    return json.loads(path.read_text())["scores"]


def read_files(folder: Path) -> dict[str, bytes]:
    """Returns the content of every file under a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_command_with_signal() -> int:
    """Runs `clipin` with the arguments after the first one, SIGNAL@STEP."""
    at, *argv = sys.argv[1:]
    number, _, step = at.partition("@")
    with on_one_device(), signal_at(int(step), signal.Signals[number]):
        return main(argv)
