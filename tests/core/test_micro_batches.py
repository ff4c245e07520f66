"""Towers in micro-batches give the step of the whole batch; what cannot is refused."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.micro_batches import Pieces
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.core.step import make_health_fn
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Linear
from clipin_jax.objectives.base import POOLED, ObjectiveModule
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.tiny import tiny_batch

SMALL = (
    "batch_size=32", "model.text.vocab_size=64", "model.text.context_length=12",
    "model.image.width=32", "model.text.width=32", "model.image.depth=1",
    "model.text.depth=1", "optim.clip_norm=0.0",
)  # fmt: skip
# Its state is a sum of gradients. Adam would move parameters without gradient by rounding.
PLAIN = ("optim.name=sgd", "optim.weight_decay=0.0", "optim.learning_rate=0.1")


@functools.cache
def build(spec, *overrides, devices=8):
    config = load_config(spec, (*SMALL, *PLAIN, *overrides))
    return build_experiment(config, jax.devices()[:devices])


def train(spec, *overrides, devices=8, start=None):
    """Returns the state after two steps, from `start` if given, and the metrics."""
    run = build(spec, *overrides, devices=devices)
    with jax.set_mesh(run.mesh):
        state = run.init_state() if start is None else start
        step, metrics = jit_train_step(run), []
        for k in range(2):
            batch = sharding.put(tiny_batch(run.config, seed=k), run.mesh)
            state, numbers = step(state, batch, run.hyper(k))
            metrics.append(jax.device_get(numbers))
    return jax.device_get(state), metrics


def assert_same(ours, expected, least=1e-2):
    """Compares trees to 1e-5 of the largest entry of each leaf, or of `least`."""
    paths = paths_of(expected)
    assert paths == paths_of(ours)
    leaves = zip(paths, jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True)
    for path, x, y in leaves:
        scale = max(least, np.max(np.abs(y), initial=0.0))
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * scale, err_msg=path)


def assert_same_training(spec, *overrides, devices=8, pieces=2):
    cut = f"micro_batches={pieces}"
    state, metrics = train(spec, cut, *overrides, devices=devices)
    whole, numbers = train(spec, *overrides, devices=devices)
    for field in dataclasses.fields(whole):
        assert_same(getattr(state, field.name), getattr(whole, field.name))
    # A loss may be the small difference of its terms.
    assert_same(metrics, numbers, least=1.0)


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("clip:runlocal", ()),
        ("clip:clipin,runlocal", ()),
        ("clip:clipin,runlocal", ("model.scan_layers=True",)),
        ("siglip:clipin,runlocal", ()),
        ("xclip:clipin,variant=S/16,runlocal", ()),
    ],
)
def test_two_steps_are_those_of_the_whole_batch(spec, overrides):
    assert_same_training(spec, *overrides)


def test_on_one_device():
    assert_same_training("clip:clipin,runlocal", devices=1, pieces=8)
