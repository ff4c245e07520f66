"""Every optimizer learns, is compiled once for all numbers, and takes its arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.optimizers import OPTIMIZERS
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config

FROM_OPTAX = "optax:adamaxw"


def optimizer_of(**keys):
    return make_optimizer(ConfigDict(keys))


def numbers(learning_rate=0.1, weight_decay=0.0):
    optim = dict(learning_rate=learning_rate, weight_decay=weight_decay)
    return {"optim": {k: np.float32(v) for k, v in optim.items()}}


def some_params(seed=0, side=8):
    """A matrix, a stack of matrices as of scanned layers, a table and a bias."""
    shapes = dict(kernel=(side, side), blocks=(3, side, side), embedding=(side, 4))
    rng = np.random.default_rng(seed)
    arrays = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    return {
        "layer": {"kernel": arrays["kernel"], "bias": np.ones(side, np.float32)},
        "blocks": {"kernel": arrays["blocks"]},
        "embedding": arrays["embedding"],
    }


@pytest.mark.parametrize("name", [*OPTIMIZERS, FROM_OPTAX])
def test_every_optimizer_learns_and_is_compiled_once(name):
    optimizer = optimizer_of(name=name, clip_norm=1.0)
    goal = some_params(seed=1)

    def loss_fn(params):
        errors = jax.tree.map(lambda x, y: jnp.mean(jnp.square(x - y)), params, goal)
        return sum(jax.tree.leaves(errors))

    @jax.jit
    def step(params, state, hyper):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer(hyper).update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = start = jax.tree.map(jnp.asarray, some_params())
    state = jax.jit(optimizer(numbers()).init)(params)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    losses = []
    for k in range(30):
        params, state, loss = step(params, state, numbers(0.1 / (1 + k), 1e-3))
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    assert step._cache_size() == 1
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
    assert shapes == jax.tree.map(
        lambda x: (x.shape, x.dtype), optimizer(numbers(3.0, 0.5)).init(start)
    )


@pytest.mark.parametrize("name", [*OPTIMIZERS, FROM_OPTAX])
def test_weights_decay_with_the_rate_except_where_a_pattern_matches(name):
    params = some_params()
    zero = jax.tree.map(jnp.zeros_like, params)

    def moved(**number):
        optimizer = optimizer_of(name=name, no_decay=(r"bias$", r"^embedding"))
        chain = optimizer(numbers(**number))
        return chain.update(zero, chain.init(params), params)[0]

    updates = moved(learning_rate=0.1, weight_decay=0.5)
    for path in (("layer", "bias"), ("embedding",)):
        leaf = functools.reduce(lambda tree, key: tree[key], path, updates)
        np.testing.assert_array_equal(leaf, 0)
    kernel = params["layer"]["kernel"]
    # LAMB scales the direction, here the decayed weights, to the norm of the weights.
    scale = 1 / 0.5 if name == "lamb" else 1
    np.testing.assert_allclose(
        updates["layer"]["kernel"], -0.1 * 0.5 * scale * kernel, rtol=1e-5
    )
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(moved(learning_rate=0.1)))


def test_adamw_is_bit_equal_to_optax():
    decayed = {"layer": {"kernel": True, "bias": False}} | {
        "blocks": {"kernel": True}, "embedding": False,
    }  # fmt: skip
    expected = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(
            np.float32(3e-3), 0.9, 0.98, 1e-6, weight_decay=np.float32(0.2),
            mask=decayed,
        ),
    )  # fmt: skip
    ours = optimizer_of(clip_norm=0.5, no_decay=("bias$", "embedding$"))
    chains = [expected, ours(numbers(3e-3, 0.2))]
    trees = [some_params(), some_params()]
    states = [chain.init(tree) for chain, tree in zip(chains, trees, strict=True)]
    for k in range(3):
        grads = some_params(seed=k + 1)
        for i, chain in enumerate(chains):
            updates, states[i] = chain.update(grads, states[i], trees[i])
            trees[i] = optax.apply_updates(trees[i], updates)
    jax.tree.map(np.testing.assert_array_equal, *trees)


def state_bytes(params, **keys):
    state = jax.eval_shape(optimizer_of(**keys)(numbers()).init, params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_memory_of_the_state():
    params = {"kernel": jax.ShapeDtypeStruct((3, 256, 512), jnp.float32)}
    whole = 4 * 3 * 256 * 512
    little = 4 * 3 * (256 + 512) + 64
    assert whole * 2 <= state_bytes(params, name="adamw") <= whole * 2 + 64
    half = state_bytes(params, name="adamw", mu_dtype="bfloat16")
    assert whole * 1.5 <= half <= whole * 1.5 + 64
    for name in ("lion", "sgd", "muon"):
        assert state_bytes(params, name=name) <= whole + 64
    assert state_bytes(params, name="sgd", momentum=None) == 0
    # The second moment of rows and columns, for each layer of the stack.
    assert state_bytes(params, name="adafactor") <= little
    momentum = dict(momentum=0.9, dtype_momentum="bfloat16")
    assert state_bytes(params, name="adafactor", **momentum) <= whole / 2 + little


def test_muon_makes_matrices_orthogonal_layer_by_layer():
    params, grads = some_params(), some_params(seed=1)
    chain = optimizer_of(name="muon", consistent_rms=None, ns_steps=10)(numbers(1.0))
    updates, state = chain.update(grads, chain.init(params), params)
    for kernel in (updates["layer"]["kernel"], *updates["blocks"]["kernel"]):
        values = np.linalg.svd(kernel, compute_uv=False)
        assert 0.5 < values.min() and values.max() < 1.5
    second = {
        k: v.shape
        for k, v in optax.tree.get_all_with_path(state, "nu")[0][1].items()
        if hasattr(v, "shape")
    }
    assert second == {"embedding": (8, 4)}


def test_bounds_hold_after_the_step():
    params = {"logit_scale": jnp.array(4.6), "other": jnp.array(4.6)}
    chain = optimizer_of(bounds=((r"logit_scale$", 0.0, 4.6052),))(numbers())
    grads = {"logit_scale": jnp.array(-1.0), "other": jnp.array(-1.0)}
    updates, _ = chain.update(grads, chain.init(params), params)
    moved = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(moved["logit_scale"], 4.6052, rtol=1e-6)
    assert moved["other"] > 4.69


def test_an_optimizer_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "their_optimizer.py").write_text(
        "import jax, jax.numpy as jnp, optax\n"
        "def signs(decay, *, scale: float = 1.0):\n"
        "    sign = lambda g, p: jax.tree.map(lambda x: scale * jnp.sign(x), g)\n"
        "    return optax.chain(optax.stateless(sign), decay)\n"
        "broken = lambda decay: 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    params, grads = some_params(), some_params(seed=1)
    chain = optimizer_of(name="their_optimizer:signs", scale=2.0)(numbers(0.1))
    updates, _ = chain.update(grads, chain.init(params), params)
    expected = jax.tree.map(lambda g: -0.2 * np.sign(g), grads)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), updates, expected
    )
    with pytest.raises(ClipinError, match="optim.scal does not exist.*'scale'"):
        optimizer_of(name="their_optimizer:signs", scal=2.0)
    with pytest.raises(ClipinError, match="broken.* cannot be built"):
        optimizer_of(name="their_optimizer:broken")


@pytest.mark.parametrize(
    "keys, message",
    [
        (dict(name="adam"), "optim.name is 'adam'.*did you mean 'adamw'"),
        (dict(name="lion", eps=1e-8), "optim.eps does not exist"),
        (dict(bb1=0.9), "optim.bb1 does not exist: did you mean 'b1'"),
        (dict(clip_nrm=0.9), "optim.clip_nrm .* did you mean 'clip_norm'"),
        (dict(b1="high"), "optim.name 'adamw' cannot be built from .*'high'"),
        (dict(mu_dtype="bfloat17"), "cannot be built from .*bfloat17"),
        (dict(name="optax:adan", b9=1.0), "optim.b9 does not exist"),
        (dict(name="optax:no_such"), "no_such"),
        (dict(name="adafactor", decay_rate=-1.0), "optim.decay_rate is -1: .* above 0"),
        (dict(clip_norm=-1.0), "optim.clip_norm is -1.0"),
        (dict(clip_norm="low"), "optim.clip_norm is 'low'"),
        (dict(layer_decay=2.0), "optim.layer_decay is 2.0"),
        (dict(no_decay=("bias$", "(")), r"optim.no_decay has '\(', which is not a"),
        (dict(bounds=(("[", 0.0, 1.0),)), r"optim.bounds has '\['"),
        (dict(bounds=("scale",)), "optim.bounds has 'scale'"),
        (dict(no_decay="bias$"), "optim.no_decay is"),
    ],
)
def test_invalid_optimizers_are_refused(keys, message):
    with pytest.raises(ClipinError, match=message) as error:
        optimizer_of(**keys)
    assert "\n" not in str(error.value)


def test_equal_configs_make_equal_optimizers():
    keys = dict(name="muon", ns_steps=3, groups=(("a", dict(learning_rate=0.1)),))
    first, second = optimizer_of(**keys), optimizer_of(**keys, weight_decay=0.5)
    assert first == second and hash(first) == hash(second)
    assert first != optimizer_of(**keys | dict(ns_steps=4))


@pytest.mark.slow
def test_a_sweep_compiles_the_step_once():
    """Learning rate, decay, loss weights and target decay are inputs of the step."""
    run = build_experiment(tiny_config(), jax.devices()[:1])
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    state, batch = run.init_state(), tiny_batch(run.config)
    losses = []
    for point in (
        (),
        ("optim.learning_rate.peak=0.1", "optim.weight_decay=0.5"),
        ("objectives.clipin.inter_weight=3.0", "target.decay=0.5"),
    ):
        hyper = build_experiment(tiny_config(*point), jax.devices()[:1]).hyper
        _, metrics = step(state, batch, hyper(0))
        losses.append(float(metrics["loss"]))
    assert step._cache_size() == 1
    assert losses[0] == losses[1] != losses[2]


def test_overrides_choose_an_optimizer_and_its_arguments():
    """`optim.name=lion` and an argument that no page lists."""
    overrides = "optim.name=lion", "optim.b2=0.95", "optim.mu_dtype=bfloat16"
    run = build_experiment(tiny_config(*overrides, clipin=False), jax.devices()[:1])
    assert dict(run.optimizer.arguments) == dict(b2=0.95, mu_dtype="bfloat16")
    floats = [
        leaf for leaf in jax.tree.leaves(run.abstract_state.opt_state) if leaf.ndim
    ]
    assert floats and all(leaf.dtype == jnp.bfloat16 for leaf in floats)
    with pytest.raises(ClipinError, match="optim.nesterov"):
        tiny_config("optim.name=lion", "optim.nesterov=True")
