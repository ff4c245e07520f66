"""Towers in micro-batches give the step of the whole batch; what cannot is refused."""

import dataclasses
import functools
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.compute_copies import ComputeCopies
from clipin_jax.core.micro_batches.pair_objectives import pair_inputs
from clipin_jax.core.micro_batches.passes import Pieces
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_groups import Group
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.core.step import NO_COPIES, make_health_fn, make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Linear
from clipin_jax.objectives import OBJECTIVES
from clipin_jax.objectives.base import POOLED, ObjectiveModule
from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.objectives.losses import Mean
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.small_learner import (
    LENGTH,
    PAD,
    VOCABULARY,
    WIDTH,
    SmallImage,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
    through_bytes,
)
from tests.support.tiny import tiny_batch

ROWS = 32
HEADS = dict(projection_dim=6, predictor_hidden_dim=5)
LEARNED = dict(target_view="second", learned=("weight", "distillation"))
# Groups of objectives -> their arguments.
SMALL_RUNS: dict[str, dict[str, Any]] = {
    "captions": dict(contrastive={}, captioning={}, clipin=HEADS),
    "pooled": dict(
        sigmoid={}, cluster=dict(num_clusters=5, hidden_dim=4),
        simclr=dict(hidden_dim=5, projection_dim=4),
    ),
    "targets": dict(
        momentum_contrastive=dict(queue_length=2 * ROWS), momentum_infonce=HEADS,
        masked_lm={},
    ),
    "symmetric": dict(siamese=HEADS, captioning={}, masked_lm=LEARNED),
}  # fmt: skip
FROZEN = (Group(re.compile("^towers/image/"), freeze=True),)


def momentum(decay):
    """Its state is a sum of gradients; others move parameters by rounding errors."""
    return optax.chain(optax.trace(0.9), decay)


def texts_of_any_length(batch, seed=0):
    """Pads texts, so that rows count differently in a mean over tokens."""
    rng = np.random.default_rng(seed)
    for view in batch.values():
        rows, length = view["text"].shape
        used = rng.integers(2, length, (rows, 1)) > np.arange(length)
        view["text"] = np.where(used, view["text"], PAD)
        if "masked_text" in view:
            labels = np.where(rng.random((rows, LENGTH)) < 0.3, view["text"], -100)
            view["masked_labels"] = labels.astype(np.int32)
    return batch


@functools.cache
def small_learner(name, dtype=np.float64):
    types = dict(dtype=dtype, param_dtype=dtype)
    objectives = {
        key: OBJECTIVES[key](**types | arguments)
        for key, arguments in SMALL_RUNS[name].items()
    }
    learner = make_learner(dtype=dtype, **objectives)
    return learner.clone(symmetric=name == "symmetric")


class SmallRun:
    """Two steps of a small learner.

    Attributes:
      result: the state after them, and their metrics.
      program: the compiled step as text.
    """

    def __init__(
        self, name, *, devices=1, pieces=1, dtype=np.float64, copies=NO_COPIES
    ):
        learner = small_learner(name, dtype)
        batch, hyper = texts_of_any_length(make_batch(ROWS)), make_hyper(learner)
        hyper["optim"]["learning_rate"] = np.float32(0.1)
        hyper["target"] = {"decay": np.float32(0.9)}
        optimizer = Optimizer(momentum, groups=FROZEN if name == "symmetric" else ())
        make = make_train_step(learner, optimizer, copies=copies, micro_batches=pieces)
        mesh = sharding.make_mesh(-1, 1, jax.devices()[:devices])
        with jax.set_mesh(mesh):
            state = start_state(learner, batch, hyper)
            trained, _ = optimizer.split(state.params)
            state = dataclasses.replace(state, opt_state=optimizer(hyper).init(trained))
            place = sharding.replicated(mesh)
            state, batch = jax.device_put(state, place), sharding.put(batch, mesh)
            step = jax.jit(make, out_shardings=place).lower(state, batch, hyper)
            step, metrics = step.compile(), []
            for _ in range(2):
                state, numbers = step(state, batch, hyper)
                metrics.append(numbers)
        self.result, self.program = jax.device_get((state, metrics)), step.as_text()


SMALL = (
    "batch_size=32", "model.text.vocab_size=64", "model.text.context_length=12",
    "model.image.width=32", "model.text.width=32", "model.image.depth=1",
    "model.text.depth=1", "optim.clip_norm=0.0",
)  # fmt: skip
PLAIN = ("optim.name=sgd", "optim.weight_decay=0.0", "optim.learning_rate=0.1")
DOUBLE = ("model.dtype=float64", "model.param_dtype=float64")
FREEZE = "optim.groups=(('^towers/image/', {'freeze': True}),)"
SPLIT = "mesh.dcn=2", "mesh.fsdp=2", "sharding.preset=fsdp+zero1", "sharding.min_mib=0"
COCA = (
    "coca:runlocal", "model.text.decoder_depth=1", "model.scan_layers=True", *SPLIT
)  # fmt: skip


@functools.cache
def build(spec, *overrides, devices=8):
    config = load_config(spec, (*SMALL, *PLAIN, *overrides))
    return build_experiment(config, jax.devices()[:devices])


@functools.cache
def train(spec, *overrides, devices=8):
    """Returns the state after two steps and the metrics."""
    return train_from(None, spec, *overrides, devices=devices)


def train_from(start, spec, *overrides, devices=8):
    """Returns the same from a state, which is that of a new run if None."""
    run = build(spec, *overrides, devices=devices)
    with jax.set_mesh(run.mesh):
        state = run.init_state() if start is None else start
        step, metrics = jit_train_step(run), []
        for k in range(2):
            batch = texts_of_any_length(tiny_batch(run.config, seed=k), seed=k)
            if run.config.data.get("mask_probability"):
                for view in batch.values():
                    view["masked_text"] = view["masked_labels"] = view["text"]
            state, numbers = step(state, sharding.put(batch, run.mesh), run.hyper(k))
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


def assert_same_training(ours, expected):
    (state, metrics), (whole, numbers) = ours, expected
    for field in dataclasses.fields(whole):
        assert_same(getattr(state, field.name), getattr(whole, field.name))
    # A loss may be the small difference of its terms.
    assert_same(metrics, numbers, least=1.0)


@pytest.mark.parametrize(
    "name", ["pooled", "targets", pytest.param("symmetric", marks=pytest.mark.slow)]
)
def test_two_steps_are_those_of_the_whole_batch(name):
    """In float64: in float32, rounding decides whether a ReLU near 0 is open."""
    with jax.enable_x64(True):
        whole, cut = SmallRun(name), SmallRun(name, devices=8, pieces=2)
        assert_same_training(cut.result, whole.result)


@pytest.fixture(scope="module")
def captions():
    """Steps of a mean over tokens: whole, in pieces on one device, and on eight."""
    settings = dict(), dict(pieces=4), dict(devices=8, pieces=2)
    return [SmallRun("captions", **given, dtype=np.float32) for given in settings]


def test_two_steps_with_captions_are_those_of_the_whole_batch(captions):
    whole, *cut = captions
    for run in cut:
        assert_same_training(run.result, whole.result)


def test_a_piece_computes_its_logits_once_and_holds_no_others(captions):
    """The products that make logits are those of the whole batch, on fewer rows."""
    logits = rf"= f32\[([\d,]+),{VOCABULARY}\]\S* dot\("
    whole, cut = (
        [math.prod(map(int, shape.split(","))) for shape in re.findall(logits, text)]
        for text in (captions[0].program, captions[1].program)
    )
    assert whole and [4 * rows for rows in cut if rows > WIDTH] == [
        rows for rows in whole if rows > WIDTH
    ]


@pytest.mark.slow
def test_two_steps_of_a_config():
    """With scanned layers, and parameters split over devices."""
    assert_same_training(train(*COCA, "micro_batches=2"), train(*COCA))


WITHOUT_MATCHING = ("objectives.matching=None", "model.text.dropout=0.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("clip:runlocal", ()),
        ("clip:clipin,runlocal", ("target.symmetric=True", FREEZE)),
        ("clip:clipin,runlocal", ("model.scan_layers=True", *SPLIT)),
        ("coca:clipin,runlocal", ()),
        ("siglip:clipin,runlocal", ()),
        ("xclip:clipin,variant=S/16,runlocal", ()),
        ("albef:clipin,runlocal", ("data.mask_probability=0.15", *WITHOUT_MATCHING)),
        ("blip:clipin,runlocal", WITHOUT_MATCHING),
    ],
)
def test_two_steps_of_other_configs(spec, overrides):
    with jax.enable_x64(True):
        run = (spec, *DOUBLE, *overrides)
        assert_same_training(train(*run, "micro_batches=2"), train(*run))


def test_half_precision(captions):
    """The same to rounding of the type; the state keeps its own types."""
    whole, numbers = captions[0].result
    copies = ComputeCopies(jnp.dtype("bfloat16"))
    half = SmallRun("captions", dtype=np.float32, copies=copies, pieces=4)
    state, metrics = half.result
    types = [jax.tree.map(lambda x: x.dtype, s.opt_state) for s in (state, whole)]
    assert types[0] == types[1]
    for ours, expected in zip(metrics, numbers, strict=True):
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(ours[name], expected[name], rtol=5e-2)


def test_health_is_that_of_the_whole_batch():
    learner, batch, numbers = small_learner("captions", np.float32), make_batch(8), []
    state = start_state(learner, batch, make_hyper(learner))
    for pieces in (1, 4):
        health = make_health_fn(learner, Optimizer(momentum), micro_batches=pieces)
        numbers.append(jax.device_get(jax.jit(health)(state, batch)))
    assert "clipin/modality_gap" in numbers[0]
    assert_same(*numbers, least=1.0)


class DropoutImage(SmallImage):
    """Drops half of the features, so that every mask is another function."""

    @nn.compact
    def __call__(self, image, train=False):
        tokens = Linear(WIDTH, name="embed")(image.reshape(image.shape[0], 4, -1))
        tokens = nn.Dropout(0.5, deterministic=not train)(tokens)
        return {"tokens": tokens, "pooled": tokens.mean(axis=1)}


class OfPooled(ObjectiveModule):
    """The mean of `pooled`, which the first pass computes."""

    reads = (POOLED,)

    def __call__(self, inputs):
        return inputs.features["image"]["pooled"].mean(), {}


class OfTokens(ObjectiveModule):
    """The mean of the tokens, which the last pass computes; another package has it."""

    def means(self, inputs):
        tokens = inputs.features["image"]["tokens"]
        return Mean.of(tokens, jnp.ones_like(tokens, bool)), {}


@pytest.mark.parametrize("devices", [1, 2])
def test_the_last_pass_drops_what_the_first_one_did(devices):
    objectives = dict(row=Contrastive(), pooled=OfPooled(), tokens=OfTokens())
    learner, batch = make_learner(image=DropoutImage(), **objectives), make_batch()
    batch = jax.tree.map(lambda x: np.repeat(x[:1], 8, axis=0), batch)
    hyper = make_hyper(learner)
    params = start_state(learner, batch, hyper).params
    views, rngs = {"view1": batch["view1"]}, {"dropout": jax.random.key(1)}
    pairs = pair_inputs(learner, batch, hyper, {}, rngs)
    pieces = Pieces(learner, 2, views, rngs, pairs)

    def loss_fn(heads, pooled):
        image = pooled["view1"]["image"]
        return jnp.sin(image).sum(), ({"pooled": image.mean()}, image)

    def whole(params):
        loss, (metrics, _) = loss_fn({}, pieces.pool({"params": params}))
        return loss + metrics["pooled"]

    with jax.set_mesh(sharding.make_mesh(devices, 1, jax.devices()[:devices])):
        gradient = jax.jit(pieces.value_and_grad(loss_fn, {"params": {}}, NO_COPIES))
        (_, (metrics, pooled)), grads = gradient(params)
        expected = jax.jit(jax.grad(whole))(params)
    assert_same(grads["towers"]["image"], expected["towers"]["image"])
    np.testing.assert_allclose(metrics["tokens/loss"], metrics["pooled"], rtol=1e-5)
    # Equal images differ by their masks: between rows, pieces and devices.
    assert len(np.unique(np.asarray(pooled), axis=0)) == 8


def test_another_number_of_pieces_takes_over_a_run():
    """Not even rounding differs after a restart; the state is that of any number."""
    cut = (*COCA, "micro_batches=2")
    assert build(*cut).abstract_state == build(*COCA).abstract_state
    assert build(*cut).state_sharding == build(*COCA).state_sharding
    run, (first, _) = build(*cut), train(*cut)
    with jax.set_mesh(run.mesh):
        placed = [jax.device_put(through_bytes(first), run.state_sharding)] * 2
        again = [train_from(jax.tree.map(jnp.copy, s), *cut)[0] for s in placed]
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
        ("albef:runlocal", ("micro_batches=2",), "but objectives.matching reads more"),
        ("blip:runlocal", ("micro_batches=2",), "but objectives.matching reads more"),
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
