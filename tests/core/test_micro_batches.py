"""Towers in micro-batches give the step of the whole batch; what cannot is refused."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.micro_batches.passes import Pieces
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.core.step import NO_COPIES, make_health_fn
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Linear
from clipin_jax.objectives.base import ObjectiveModule
from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.small_learner import (
    WIDTH,
    SmallImage,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
    through_bytes,
)
from tests.support.tiny import tiny_batch

SMALL = (
    "batch_size=32", "model.text.vocab_size=64", "model.text.context_length=12",
    "model.image.width=32", "model.text.width=32", "model.image.depth=1",
    "model.text.depth=1", "optim.clip_norm=0.0",
)  # fmt: skip
# Its state is a sum of gradients. Adam moves parameters without one by rounding errors.
PLAIN = ("optim.name=sgd", "optim.weight_decay=0.0", "optim.learning_rate=0.1")
DOUBLE = ("model.dtype=float64", "model.param_dtype=float64")
FREEZE = "optim.groups=(('^towers/image/', {'freeze': True}),)"


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


def assert_same(ours, expected, least=0.1):
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


def test_half_precision():
    """The same to rounding of the type; the state keeps its own types."""
    half = ("clip:clipin,runlocal", "model.dtype=bfloat16")
    (state, metrics), (whole, numbers) = train(*half, "micro_batches=4"), train(*half)
    types = [jax.tree.map(lambda x: x.dtype, s.opt_state) for s in (state, whole)]
    assert types[0] == types[1]
    for ours, expected in zip(metrics, numbers, strict=True):
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(ours[name], expected[name], rtol=5e-2)


def test_on_one_device():
    assert_same_training("clip:clipin,runlocal", devices=1, pieces=8)


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("clip:clipin,runlocal", ("target.symmetric=True", FREEZE)),
        (
            "clip:clipin,runlocal",
            (
                "mesh.dcn=2",
                "mesh.fsdp=2",
                "sharding.preset=fsdp+zero1",
                "sharding.min_mib=0",
            ),
        ),
        ("clip:runlocal", ("objectives.simclr={'hidden_dim': 32}", "data.views=2")),
        (
            "clip:runlocal",
            (
                "objectives.siamese={'projection_dim': 32}",
                "data.views=2",
                "target.symmetric=True",
            ),
        ),
        (
            "clip:runlocal",
            (
                "objectives.momentum_contrastive={'queue_length': 64}",
                "objectives.momentum_infonce={'projection_dim': 32}",
                "target.decay=0.9",
            ),
        ),
    ],
)
def test_other_objectives_and_settings(spec, overrides):
    """In float64: in float32, rounding decides whether a ReLU near 0 is open."""
    with jax.enable_x64(True):
        assert_same_training(spec, *DOUBLE, *overrides)


def test_health_is_that_of_the_whole_batch():
    numbers = []
    for cut in ("micro_batches=1", "micro_batches=4"):
        run = build("clip:clipin,runlocal", cut)
        health = make_health_fn(
            run.learner, run.optimizer, run.views, micro_batches=run.micro_batches
        )
        with jax.set_mesh(run.mesh):
            batch = sharding.put(tiny_batch(run.config), run.mesh)
            numbers.append(jax.device_get(jax.jit(health)(run.init_state(), batch)))
    assert_same(*numbers, least=1.0)


class DropoutImage(SmallImage):
    """Drops half of the features, so that every mask is another function."""

    @nn.compact
    def __call__(self, image, train=False):
        tokens = Linear(WIDTH, name="embed")(image.reshape(image.shape[0], 4, -1))
        drop = nn.Dropout(0.5, deterministic=not train)
        return {"tokens": tokens, "pooled": drop(tokens.mean(axis=1))}


@pytest.mark.parametrize("devices", [1, 2])
def test_the_last_pass_drops_what_the_first_one_did(devices):
    learner, batch = make_learner(image=DropoutImage(), row=Contrastive()), make_batch()
    batch = jax.tree.map(lambda x: np.repeat(x[:1], 8, axis=0), batch)
    params = start_state(learner, batch, make_hyper(learner)).params
    views, rngs = {"view1": batch["view1"]}, {"dropout": jax.random.key(1)}
    pieces = Pieces(learner, 2, views, rngs)

    def loss_fn(heads, pooled):
        return jax.numpy.sin(pooled["view1"]["image"]).sum(), pooled

    def whole(params):
        return loss_fn({}, pieces.pool({"params": params}))[0]

    with jax.set_mesh(sharding.make_mesh(devices, 1, jax.devices()[:devices])):
        gradient = jax.jit(pieces.value_and_grad(loss_fn, {"params": {}}, NO_COPIES))
        (_, pooled), grads = gradient(params)
        assert_same(
            grads["towers"]["image"], jax.grad(whole)(params)["towers"]["image"]
        )
    # Equal images differ by their masks: between rows, pieces and devices.
    assert len(np.unique(np.asarray(pooled["view1"]["image"]), axis=0)) == 8


def test_another_number_of_pieces_takes_over_a_run():
    """Not even rounding differs after a restart; the state is that of any number."""
    cut = ("clip:clipin,runlocal", "micro_batches=2")
    assert build(*cut).abstract_state == build(cut[0]).abstract_state
    assert build(*cut).state_sharding == build(cut[0]).state_sharding
    run = build(*cut)
    with jax.set_mesh(run.mesh):
        first, _ = train(*cut)
        placed = [jax.device_put(through_bytes(first), run.state_sharding)] * 2
        again = [train(*cut, start=jax.tree.map(jax.numpy.copy, s))[0] for s in placed]
    jax.tree.map(np.testing.assert_array_equal, *again)


class ReadsMore(ObjectiveModule):
    """An objective of another package, which does not say what it reads."""

    def __call__(self, inputs):
        return inputs.features["image"]["tokens"].sum(), {}


MORE = f"objectives.more={{'type': '{__name__}:ReadsMore'}}"


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("clip:runlocal", ("micro_batches=0",), "is 0: give a divisor of 4, the pairs"),
        ("clip:runlocal", ("micro_batches=3",), "is 3: give a divisor of 4, the pairs"),
        ("clip:runlocal", ("micro_batches=2", MORE), "but objectives.more reads more"),
        ("coca:runlocal", ("micro_batches=2",), "but objectives.captioning reads more"),
        (
            "albef:runlocal",
            ("micro_batches=2",),
            "objectives.(matching|masked_lm) reads",
        ),
        (
            "clip:tower=RN50,runlocal",
            ("micro_batches=2",),
            "but model.image has batch",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(spec, overrides, message):
    with pytest.raises(ClipinError, match=message) as error:
        build_experiment(load_config(spec, ("batch_size=32", *overrides)))
    assert "\n" not in str(error.value)


def test_a_frozen_tower_with_batch_statistics_can_be_cut():
    config = ("batch_size=32", "micro_batches=2", FREEZE)
    build_experiment(load_config("clip:tower=RN50,runlocal", config))
