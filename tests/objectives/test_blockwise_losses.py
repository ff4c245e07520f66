"""Losses in blocks of logits: the dense ones, without their memory."""

import functools
import math
import re

import jax
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.objectives.blockwise_losses import blocks
from clipin_jax.objectives.blockwise_losses.pairs import Pairs, make_plan
from clipin_jax.objectives.blockwise_losses.sigmoid import blockwise_sigmoid
from clipin_jax.objectives.blockwise_losses.softmax import blockwise_softmax
from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.objectives.duplicates import (
    CHOICES,
    apply_choice,
    duplicate_metrics,
    find_duplicates,
)
from clipin_jax.objectives.losses import (
    diagonal_accuracy,
    mask_logits,
    sigmoid_contrastive,
    softmax_contrastive,
)
from clipin_jax.objectives.sigmoid import Sigmoid
from tests.support.objective_inputs import objective_inputs

B, E = 32, 8
IMPLS = ("chunked", "ring")
# On one device, a ring is in chunks. Each way is a program to compile.
WAYS = {
    "float32": [("chunked", 2), ("ring", 4)],
    "float64": [("chunked", 1), ("chunked", 8), ("ring", 2), ("ring", 8)],
}
LOSSES = ("softmax", "smooth softmax", "sigmoid")
SMOOTHING = 0.1
HOSTS = {"contrastive": Contrastive, "sigmoid": Sigmoid}


def make_arrays(dtype=np.float32, rows=B):
    """Texts that often are nearest to their image, a scale and a bias."""
    rng = np.random.default_rng(0)
    image, noise = rng.normal(size=(2, rows, E))
    both = (image, image + 1.5 * noise)
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in both)
    return tuple(np.asarray(x, dtype) for x in (image, text, 9.0, -3.0))


def make_ids(rows=B):
    """Ids of which many are equal, and some are equal to none."""
    ids = np.random.default_rng(1).integers(-6, rows, (2, rows)).astype(np.int32)
    return dict(zip(("image_id", "text_id"), ids, strict=True))


def make_mesh(count):
    dcn, fsdp = (2, 2) if count == 8 else (1, 2 if count > 2 else 1)  # all split it
    return sharding.make_mesh(-1, fsdp, jax.devices()[:count], dcn=dcn)


def dense(arrays, ids, name, choice):
    image, text, scale, bias = arrays
    logits = scale * image @ text.T + (bias if name == "sigmoid" else 0)
    duplicates = find_duplicates({} if choice == "ignore" else ids)
    ranked = mask_logits(logits, duplicates)
    metrics = {
        "image_to_text_accuracy": diagonal_accuracy(ranked),
        "text_to_image_accuracy": diagonal_accuracy(ranked.T),
        **duplicate_metrics(duplicates),
    }
    chosen = apply_choice(choice, logits, duplicates)
    if name == "sigmoid":
        return sigmoid_contrastive(*chosen), metrics
    smoothing = SMOOTHING if name.startswith("smooth") else 0.0
    return softmax_contrastive(*chosen, smoothing), metrics


def blockwise(arrays, ids, name, choice, impl):
    image, text, scale, bias = arrays
    ids = {} if choice == "ignore" else ids
    smoothing = SMOOTHING if name.startswith("smooth") else 0.0
    plan = make_plan(impl, len(image), choice, smoothing)
    if name == "sigmoid":
        return blockwise_sigmoid(Pairs(image, text, scale, ids, bias), plan)
    return blockwise_softmax(Pairs(image, text, scale, ids), plan)


def run(loss, name, *rules, arrays, ids, mesh=None):
    """Returns for each choice loss and metrics, and the gradients by all arrays."""

    @jax.jit
    def step(arrays, ids):
        def twice(arrays, choice):
            # A factor, so that the gradient of the loss itself is not one.
            result = loss(arrays, ids, name, choice, *rules)
            return jax.tree.map(lambda x: 2 * x, result)

        gradient = jax.value_and_grad(twice, has_aux=True)
        # In one program: most of the time goes to compiling.
        return {choice: gradient(arrays, choice) for choice in CHOICES}

    if mesh is None:
        return jax.device_get(step(arrays, ids))
    with jax.set_mesh(mesh):
        split = sharding.put((*arrays[:2], ids), mesh)
        return jax.device_get(step((*split[:2], *arrays[2:]), split[2]))


@functools.cache
def run_dense(name, dtype=np.float32):
    """Returns the same of the dense loss for `make_arrays` and `make_ids`."""
    return run(dense, name, arrays=make_arrays(dtype), ids=make_ids())


def assert_equal(one, other, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance
        ),
        one,
        other,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.mark.parametrize("name", LOSSES)
def test_values_gradients_and_accuracies_are_the_dense_ones(dtype, name):
    given = dict(arrays=make_arrays(dtype), ids=make_ids())
    expected = run_dense(name, dtype.type)
    for (_, metrics), gradients in expected.values():
        assert 0 < metrics["image_to_text_accuracy"] < 2
        assert all(np.any(x) for x in gradients[: 4 if name == "sigmoid" else 3])
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    for impl, devices in WAYS[dtype.name]:
        result = run(blockwise, name, impl, mesh=make_mesh(devices), **given)
        assert_equal(result, expected, tolerance)
        assert all(loss.dtype == dtype for (loss, _), _ in result.values())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("devices", [1, 4])
def test_chunks_are_put_together(monkeypatch, name, devices):
    monkeypatch.setattr(blocks, "_CHUNK_LOGITS", 5 * B // devices)  # 4 columns
    given = dict(arrays=make_arrays(), ids=make_ids())
    result = run(blockwise, name, "chunked", mesh=make_mesh(devices), **given)
    assert_equal(result, run_dense(name), 1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_of_equal_logits_the_first_one_is_the_largest(impl):
    """As in `argmax`, also where blocks do not come in order."""
    image, text, scale, bias = make_arrays()
    given = dict(arrays=(0 * image, 0 * text, scale, bias), ids=make_ids())
    results = run(blockwise, "softmax", impl, mesh=make_mesh(8), **given)
    (_, metrics), _ = results["ignore"]
    assert metrics["image_to_text_accuracy"] == pytest.approx(2 / B)
    assert metrics["text_to_image_accuracy"] == pytest.approx(2 / B)


@pytest.mark.parametrize("name", LOSSES)
def test_a_ring_has_no_array_of_the_pairs_of_a_device(name):
    rows, devices = 128, 8

    def largest(loss, *rules):
        def value(arrays, ids):
            results = [loss(arrays, ids, name, choice, *rules) for choice in CHOICES]
            return sum(value for value, _ in results), results

        mesh = make_mesh(devices)
        with jax.set_mesh(mesh):
            arrays = make_arrays(rows=rows)
            image, text, ids = sharding.put((*arrays[:2], make_ids(rows)), mesh)
            step = jax.jit(jax.value_and_grad(value, has_aux=True))
            program = step.lower((image, text, *arrays[2:]), ids).compile().as_text()
        shapes = set(re.findall(r"\b(?:[fsu]\d+|pred|bf16)\[([\d,]+)\]", program))
        return max(math.prod(map(int, shape.split(","))) for shape in shapes)

    assert largest(dense) >= rows * rows // devices
    block = (rows // devices) ** 2
    assert block <= largest(blockwise, "ring") <= 2 * block


def inputs(rows=B):
    image, text, _, _ = make_arrays(rows=rows)
    features = {"image": {"embedding": image}, "text": {"embedding": text}}
    return objective_inputs(features, view=make_ids(rows))


@functools.cache
def results_of_objective(name, impl, count):
    """Returns for each choice loss and metrics, and gradients, on some devices."""
    smooth = {"label_smoothing": 0.1} if name == "contrastive" else {}
    call = inputs()

    def step(features, view):
        def result(choice):
            objective = HOSTS[name](duplicates=choice, impl=impl, **smooth)
            variables = objective.init(jax.random.key(0), call)

            def loss(variables, features):
                asked = call._replace(features=features, view=view)
                return objective.apply(variables, asked)

            gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
            return gradient(variables, features)

        return {choice: result(choice) for choice in CHOICES}

    mesh = make_mesh(count)
    with jax.set_mesh(mesh):
        placed = sharding.put((call.features, call.view), mesh)
        return jax.device_get(jax.jit(step)(*placed))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("impl", IMPLS)
def test_objectives_in_blocks_equal_the_dense_ones(name, impl):
    expected = results_of_objective(name, "dense", 1)
    for count in (1, 8):
        assert_equal(results_of_objective(name, impl, count), expected, 2e-5)


def test_auto_holds_all_logits_while_they_are_small():
    def impls(size, impl="auto"):
        plans = [make_plan(impl, size, "ignore")]
        for count in (1, 8):
            with jax.set_mesh(make_mesh(count)):
                plans.append(make_plan(impl, size, "ignore"))
        return [plan and plan.impl for plan in plans]

    assert impls(4096) == [None, None, None]  # 64 MiB
    assert impls(4104) == ["chunked", "chunked", None]
    assert impls(11584) == ["chunked", "chunked", None]
    assert impls(32, "ring") == ["chunked", "chunked", "ring"]
    assert impls(11592) == ["chunked", "chunked", "ring"]


def test_a_batch_that_does_not_split_is_visited_in_chunks():
    with jax.set_mesh(make_mesh(8)):
        plan = make_plan("ring", 30, "ignore")
        assert plan and (plan.impl, plan.axes) == ("chunked", ())
        arrays = make_arrays(rows=30)
        found = jax.jit(blockwise, static_argnums=(2, 3, 4))(
            arrays, {}, "softmax", "ignore", "ring"
        )
    assert_equal(found, dense(arrays, {}, "softmax", "ignore"), 1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_unknown_choices_are_refused(name):
    objective = HOSTS[name](impl="rings", name=f"objectives_{name}")
    message = f"objectives.{name}.impl is 'rings': did you mean 'ring'.*chunked, dense"
    with pytest.raises(ClipinError, match=message) as caught:
        objective.init(jax.random.key(0), inputs())
    assert "\n" not in str(caught.value)
