"""Every config, with and without the plug-in: trains, evaluates, resumes, shards."""

import functools
import json
import signal
from typing import Any

import jax
import numpy as np
import pytest

from clipin_jax.config import apply_changes, list_configs, load_config
from clipin_jax.core import sharding
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import DONE, REQUEUE
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.training.loop import train
from tests.support import tiny_runs
from tests.support.every_config import every_spec, loads

# They have every kind of tower, branch and head; the other configs combine these.
FAST = (
    "clip:runlocal,tower=RN50",
    "clip:runlocal,clipin",
    "nclip:runlocal,clipin",
    "albef:runlocal,clipin",
    "coca:runlocal,clipin",
)
SLOW = pytest.mark.slow
LAST = 3
FEW = (
    "batch_size=16",
    f"total_steps={LAST}",
    "log_every_steps=1",
    "health_every_steps=2",
    "checkpoint.every_steps=2",
)


def every_config() -> list[Any]:
    """Lists all configs, plain and with each option that they accept.

    Those that are not in `FAST` are marked slow.
    """
    specs = every_spec()
    assert set(FAST) <= set(specs)
    return [s if s in FAST else pytest.param(s, marks=SLOW) for s in specs]


@functools.cache
def small_config(spec: str):
    config = load_config(spec, FEW)
    with config.unlocked():
        config.data.source.length = 64
        for tower in (config.model.image, config.model.text):
            tower.update({key: 1 for key in tower if key.endswith("depth")})
        for evaluation in config.evals.values():
            for key in ("source", "train_source"):
                if key in evaluation:
                    evaluation[key].length = 32
    return config


@pytest.mark.parametrize(
    "name", [n for n in list_configs() if loads(f"{n}:runlocal,clipin=released")]
)
def test_the_released_plug_in_fits_every_host(name):
    config = small_config(f"{name}:runlocal,clipin=released")
    params = build_experiment(config, jax.devices()[:1]).abstract_state.params
    names = "".join(
        jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)
    )
    assert "predictor" in names and "pre_projector" in names


@pytest.mark.parametrize("spec", every_config())
def test_trains_evaluates_and_resumes_bit_equal(spec, tmp_path):
    config = small_config(spec)
    uninterrupted, interrupted = tmp_path / "uninterrupted", tmp_path / "interrupted"
    with tiny_runs.on_one_device():
        assert train(config, uninterrupted) == DONE
        with tiny_runs.signal_at(2, signal.SIGTERM):
            assert train(config, interrupted) == REQUEUE
        assert train(config, interrupted) == DONE
        tiny_runs.assert_same_run(config, uninterrupted, interrupted)

    rows = read_metrics(uninterrupted)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == LAST and all(loss is not None for loss in losses)
    assert [row["train/skipped"] for row in rows if "train/loss" in row] == [0] * LAST
    for name in ("config.json", "config.yaml", "environment.json", "DONE"):
        assert (uninterrupted / name).is_file()
    assert list(uninterrupted.glob("tensorboard/events*"))
    results = json.loads((uninterrupted / "eval" / f"{LAST}.json").read_text())
    assert results["step"] == LAST and set(results["evals"]) == set(config.evals)
    measured = {key.split("/")[0] for key in results["scores"]}
    assert measured == set(config.evals)


@pytest.mark.parametrize("spec", every_config())
def test_loss_is_equal_on_one_and_eight_devices(spec):
    config = small_config(spec)
    batches = TrainBatches(config.data, seed=0, batch_size=config.batch_size)
    batch = next(batches)
    batches.close()
    del batch["index"]
    slices = apply_changes(config, {"mesh.dcn": 2, "mesh.fsdp": 2})
    one = build_experiment(config, jax.devices()[:1])
    eight = build_experiment(slices, jax.devices()[:8])
    with jax.set_mesh(one.mesh):
        state = one.init_state()
    losses = [compute_loss(run, jax.device_get(state), batch) for run in (one, eight)]
    np.testing.assert_allclose(*losses, rtol=2e-5)


def compute_loss(run, state, batch) -> float:
    """Returns the loss of a state, computed on the devices of a run."""

    def loss(state, batch, hyper):
        targets, _ = run.learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections), rngs=random_keys(),
        )  # fmt: skip
        (value, _), _ = run.learner.apply(
            state.variables, batch, targets, hyper,
            mutable=list(state.collections), rngs=random_keys(),
        )  # fmt: skip
        return value

    with jax.set_mesh(run.mesh):
        placed = jax.device_put(state, run.state_sharding)
        batch = sharding.put(batch, run.mesh)
        return float(jax.jit(loss)(placed, batch, run.hyper(0)))


def random_keys() -> dict:
    return {name: jax.random.key(1) for name in ("dropout", "sample")}
