"""Low-rank factors learn alone, start at the model without them, and merge into it."""

import functools
import itertools

import jax
import numpy as np
import pytest

from clipin_jax.core.lora import (
    FACTORS,
    Lora,
    merge_lora,
)
from clipin_jax.core.parameter_paths import map_paths, merge, paths_of, split
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.models import IMAGE_TOWERS, TEXT_TOWERS
from clipin_jax.runs.build import build_experiment
from tests.contracts import examples
from tests.parity.compare import stacked
from tests.support import small_learner
from tests.support.tiny import tiny_batch, tiny_config

IMAGE = "towers/image/"
RANK = "model.lora.image.rank=2"
BIASES = "model.lora.image.also_train=mlp_in/bias$"
SMALL = ("model.image.depth=1", "model.text.depth=1", "optim.clip_norm=0.0")
IMAGES = [name for name in IMAGE_TOWERS if name != "resnet"]
TOWERS = list(zip(itertools.cycle(IMAGES), TEXT_TOWERS, strict=False))


@pytest.fixture(scope="module")
def states():
    """The states of a CLIPin before and after two steps."""
    config = tiny_config(*SMALL, RANK, BIASES)
    run = build_experiment(config, jax.devices()[:1])
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    states = [run.init_state()]
    for k in range(2):
        batch = tiny_batch(config, seed=k)
        states.append(step(states[-1], batch, run.hyper(k + 1))[0])
    return jax.device_get(states)


@functools.cache
def start(*keys):
    """Returns a learner of CLIP and its initial state."""
    run = build_experiment(tiny_config(*keys, clipin=False), jax.devices()[:1])
    return run.learner, run.init_state()


def flat(tree):
    return dict(zip(paths_of(tree), jax.tree.leaves(tree), strict=True))


def is_factor(path):
    return path.rpartition("/")[2] in FACTORS


def with_random_factors(params):
    """Returns parameters whose second factors are no longer zero."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if not path.endswith("/lora_b"):
            return leaf
        return rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype)

    return map_paths(draw, params)


SCANNED = pytest.mark.parametrize("scanned", [False, True])


@SCANNED
def test_step_0_is_the_model_without_factors(scanned):
    batch = tiny_batch(tiny_config())["view1"]
    features, params = [], []
    for keys in ((RANK,), ()):
        learner, state = start(f"model.scan_layers={scanned}", *keys)
        encode = functools.partial(learner.apply, method="encode")
        features.append(jax.jit(encode)(state.variables, batch)["image"]["embedding"])
        params.append(flat(state.params))
    np.testing.assert_array_equal(*features)
    found, expected = params
    assert found.keys() - expected.keys() == set(filter(is_factor, found))
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], path)


@SCANNED
def test_the_matrices_of_blocks_have_factors(scanned):
    params = flat(start(f"model.scan_layers={scanned}", RANK)[1].params)
    layers = {path.rpartition("/")[0] for path in filter(is_factor, params)}
    blocks = ["blocks"] if scanned else ["blocks_0", "blocks_1"]
    names = ("attention/qkv", "attention/out", "mlp_in", "mlp_out")
    assert layers == {
        f"{IMAGE}transformer/{block}/{name}" for block in blocks for name in names
    }
    for layer in layers:
        *stack, rows, columns = params[f"{layer}/kernel"].shape
        a, b, scale = (params[f"{layer}/{name}"] for name in FACTORS)
        assert a.shape == (*stack, rows, 2) and 0.7 < np.std(a) * rows**0.5 < 1.3
        assert b.shape == (*stack, 2, columns) and not np.any(b)
        np.testing.assert_array_equal(scale, np.full(stack, 16.0 / 2))
        if stack:
            assert np.all(a[0] != a[1])
    starts = {params[f"{layer}/{FACTORS[0]}"].ravel()[0].item() for layer in layers}
    assert len(starts) == len(layers)


def test_factors_alone_learn_in_their_tower(states):
    start, _, after = states
    old, new = flat(start.params), flat(after.params)
    trained = {
        path
        for path in old
        if path.endswith(("lora_a", "lora_b", "mlp_in/bias"))
        or not path.startswith(IMAGE)
    }
    for path in old:
        if path not in trained:
            np.testing.assert_array_equal(new[path], old[path], path)
        elif path.startswith(IMAGE):
            assert np.any(new[path] != old[path]), path
    moments = {path for path in flat(after.opt_state) if IMAGE in path}
    assert {path[path.index(IMAGE) :] for path in moments} == {
        path for path in trained if path.startswith(IMAGE)
    }


def test_the_target_averages_factors(states):
    start, _, after = states
    average = {p for p in flat(after.target_params) if p.startswith(IMAGE)}
    assert {
        p for p in flat(start.params) if p.endswith(("lora_a", "lora_b"))
    } <= average
    assert not any(p.endswith(("kernel", "lora_scale")) for p in average)
    online, target = flat(after.params), flat(after.target_variables["params"])
    for path in average:
        begin = flat(start.params)[path]
        assert np.any(target[path] != online[path]), path
        assert np.any(target[path] != begin), path
    kernel = f"{IMAGE}transformer/blocks_0/mlp_in/kernel"
    np.testing.assert_array_equal(target[kernel], online[kernel])


@pytest.mark.parametrize(("image", "text"), TOWERS)
def test_every_tower_has_factors_that_learn_and_merge(image, text):
    towers = {
        "image": IMAGE_TOWERS[image](**examples.TOWERS[image]),
        "text": TEXT_TOWERS[text](**examples.TOWERS[text]),
    }
    plain = small_learner.make_learner(**towers)
    learner = plain.clone(lora=(Lora("image", rank=2), Lora("text", rank=3)))
    batch, hyper = small_learner.make_batch(), small_learner.make_hyper(plain)
    state = small_learner.start_state(learner, batch, hyper)
    factors, rest = split(state.params, lambda p: p.endswith(("lora_a", "lora_b")))

    @jax.jit
    def loss(factors, rest):
        params = merge(rest, factors)
        return small_learner.forward(plain, params, state, batch, hyper)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(factors, rest)
    for tower in gradient["towers"].values():
        assert tower and all(np.any(x) for x in jax.tree.leaves(tower))
    merged = merge_lora(state.params)
    assert not any(map(is_factor, paths_of(merged)))
    np.testing.assert_allclose(loss({}, merged), value, rtol=1e-6)
    frozen, _ = split(rest, lambda path: not is_factor(path))
    assert abs(loss({}, frozen) - value) > 1e-3


def test_scanned_layers_have_the_same_features_and_merge_alike():
    batch = tiny_batch(tiny_config())["view1"]
    learner, state = start("model.scan_layers=False", RANK)
    scanned, _ = start("model.scan_layers=True", RANK)
    params = with_random_factors(jax.device_get(state.params))

    def features(model, params):
        encode = functools.partial(model.apply, method="encode")
        found = jax.jit(encode)({"params": params}, batch)
        return [found[modality]["embedding"] for modality in ("image", "text")]

    expected = features(learner, params)
    stack = stacked(params)
    blocks = stack["towers"]["image"]["transformer"]["blocks"]
    assert blocks["mlp_in"]["lora_a"].shape == (2, 32, 2)
    for model, tree in ((scanned, stack), (learner, merge_lora(params))):
        for x, y in zip(features(model, tree), expected, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        merge_lora(stack),
        stacked(jax.device_get(merge_lora(params))),
    )


def test_merging_keeps_the_dtype_and_what_has_no_factors():
    rng = np.random.default_rng(0)
    a, b, kernel = (
        jax.numpy.asarray(rng.normal(size=shape), "bfloat16")
        for shape in ((4, 1), (1, 3), (4, 3))
    )
    scale = jax.numpy.asarray(0.5, "bfloat16")
    layer = dict(kernel=kernel, bias=b[0], lora_a=a, lora_b=b, lora_scale=scale)
    merged = merge_lora({"layer": layer, "other": kernel})
    assert merged["other"] is kernel and merged["layer"].keys() == {"kernel", "bias"}
    assert merged["layer"]["kernel"].dtype == kernel.dtype
    wide = [np.asarray(x, np.float32) for x in (kernel, a, b)]
    expected = wide[0] + 0.5 * wide[1] @ wide[2]
    found = np.asarray(merged["layer"]["kernel"], np.float32)
    np.testing.assert_allclose(found, expected, rtol=2**-8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(rank=-1), "image.rank is -1: give a number of at least 0"),
        (dict(rank=33), "image.rank is 33, but the matrix of .* is 32 x 32: give at"),
        (dict(alpha=0.0), "image.alpha is 0.0: give a number above 0"),
        (dict(alpha="learned"), "image.alpha is learned: give a number above 0"),
        (dict(layers="("), r"image.layers has '\(', which is not a regular expression"),
        (dict(layers="attn"), "'attn' matches no linear .* has patch_embed, transf"),
        (dict(layers="^towers"), r"'\^towers' matches no linear layer"),
        (dict(also_train="biass"), "also_train: 'biass' matches no parameter"),
        (dict(rang=3), "image.rang': did you mean 'model.lora.image.rank'"),
    ],
)  # fmt: skip
def test_wrong_values_are_one_line(keys, message):
    with pytest.raises(ClipinError, match=message) as error:
        changes = [f"model.lora.image.{k}={v}" for k, v in ({"rank": 2} | keys).items()]
        build_experiment(tiny_config(*changes, clipin=False), jax.devices()[:1])
    assert "\n" not in str(error.value)


def test_a_residual_network_has_no_blocks_with_linear_layers():
    tower = IMAGE_TOWERS["resnet"](**examples.TOWERS["resnet"])
    learner = small_learner.make_learner(image=tower).clone(lora=(Lora("image", 2),))
    batch, hyper = small_learner.make_batch(), small_learner.make_hyper(learner)
    with pytest.raises(ClipinError, match="no linear layer .* has pool/key_in"):
        small_learner.start_state(learner, batch, hyper)


def test_a_group_that_freezes_all_factors_is_refused():
    freeze = "optim.groups=(('^towers/image/', {'freeze': True}),)"
    with pytest.raises(ClipinError, match="freezes the factors of model.lora.image"):
        build_experiment(tiny_config(RANK, freeze), jax.devices()[:1])
