"""A frozen tower costs no gradient and no state, and is the same in every step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.freezing import evaluation_mode, frozen_modules
from clipin_jax.core.parameter_paths import paths_of, split
from clipin_jax.core.step import make_train_step
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config

FREEZE = "optim.groups=(('^towers/image/', {'freeze': True}),)"
IMAGE = "towers/image/"
SMALL = ("model.image.depth=1", "model.text.depth=1", "optim.clip_norm=0.0")


@functools.cache
def steps(*overrides, devices=1):
    """Returns the compiled step, the states before and after two steps, and losses."""
    config = tiny_config(*SMALL, *overrides)
    run = build_experiment(config, jax.devices()[:devices])
    with jax.set_mesh(run.mesh):
        state = run.init_state()
        batches = [tiny_batch(config, seed=k) for k in range(2)]
        batches = [sharding.put(batch, run.mesh) for batch in batches]
        outputs = run.state_sharding, sharding.replicated(run.mesh)
        step = jax.jit(
            make_train_step(run.learner, run.optimizer),
            out_shardings=outputs,
            # As in training: the programs with and without freezing are bit-equal.
            compiler_options={"xla_cpu_use_fusion_emitters": True},
        )
        step = step.lower(state, batches[0], run.hyper(0)).compile()
        states, losses = [jax.device_get(state)], []
        for k, batch in enumerate(batches):
            state, metrics = step(state, batch, run.hyper(k))
            states.append(jax.device_get(state))
            losses.append(float(metrics["loss"]))
    return step, states, losses


def flat(tree):
    return dict(zip(paths_of(tree), jax.tree.leaves(tree), strict=True))


def size(tree, part=""):
    """Bytes of the leaves whose path has a part."""
    return sum(leaf.nbytes for path, leaf in flat(tree).items() if part in path)


def test_the_state_of_the_frozen_tower_is_absent():
    _, (start, _, after), _ = steps(FREEZE)
    _, (whole, *_), _ = steps()
    tower = size(start.params, IMAGE)
    assert tower == size(whole.params, IMAGE) > 0
    # Two moments each, nothing but them and the count of steps.
    assert size(whole.opt_state) == 2 * size(whole.params) + 4
    assert size(start.opt_state) == 2 * (size(start.params) - tower) + 4
    assert not any(IMAGE in path for path in flat(after.opt_state))
    # Nor is there a second copy as a target.
    assert not any(IMAGE in path for path in flat(after.target_params))
    assert size(whole.target_params) - size(start.target_params) == tower


def test_the_gradient_of_the_frozen_tower_is_absent():
    frozen, whole = steps(FREEZE)[0], steps()[0]

    def memory(step):
        return step.memory_analysis().temp_size_in_bytes

    def operations(step):
        return step.cost_analysis()["flops"]

    assert memory(frozen) < 0.8 * memory(whole)
    assert operations(frozen) < 0.9 * operations(whole)


def test_frozen_parameters_stay_and_others_move_as_without_freezing():
    _, (start, after, last), losses = steps(FREEZE)
    _, (_, expected, _), expected_losses = steps()
    assert losses[0] == expected_losses[0]
    start, after, last, expected = (
        flat(state.params) for state in (start, after, last, expected)
    )
    for path in start:
        if path.startswith(IMAGE):
            np.testing.assert_array_equal(last[path], start[path], path)
        else:
            np.testing.assert_array_equal(after[path], expected[path], path)
            assert not np.array_equal(last[path], after[path]) or "bias" in path, path


def test_one_device_and_eight_have_the_same_losses():
    _, alone, losses = steps(FREEZE)
    _, spread, other_losses = steps(FREEZE, devices=8)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
    for states in (alone, spread):
        frozen = [
            {p: x for p, x in flat(state.params).items() if p.startswith(IMAGE)}
            for state in states
        ]
        for later in frozen[1:]:
            jax.tree.map(np.testing.assert_array_equal, later, frozen[0])


def test_the_target_of_a_frozen_tower_is_the_online_one():
    _, (start, after, _), _ = steps(FREEZE)
    for state in (start, after):
        online, target = (
            flat(variables["params"])
            for variables in (state.variables, state.target_variables)
        )
        for path in (p for p in online if p.startswith(IMAGE)):
            np.testing.assert_array_equal(target[path], online[path], path)
    path = "towers/text/transformer/blocks_0/mlp_in/kernel"
    average = flat(after.target_variables["params"])[path]
    assert not np.array_equal(average, flat(after.params)[path])
    assert not np.array_equal(average, flat(start.params)[path])


class Noisy(nn.Module):
    """Dropout and batch statistics, `train` by position and by keyword."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(0.5, name="drop")(x, deterministic=not train)
        return nn.BatchNorm(use_running_average=not train, name="norm")(x)


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        remat = nn.remat(Noisy, static_argnums=(2,))
        return Noisy(name="first")(x, train=train), remat(name="second")(x, train)


class Root(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return Pair(name="towers")(x, train)


def test_a_frozen_module_runs_in_evaluation_mode():
    x = jnp.arange(64.0).reshape(16, 4)
    root, rngs = Root(), {"dropout": jax.random.key(0)}
    variables = root.init({"params": jax.random.key(1)}, x, False)
    evaluated = root.apply(variables, x, False)

    def outputs(*names):
        trained, frozen = split(
            variables["params"], lambda path: path.split("/")[1] not in names
        )
        with evaluation_mode(frozen_modules(trained, frozen)):
            return root.apply(variables, x, True, rngs=rngs, mutable=["batch_stats"])

    noisy, _ = outputs()
    assert all(np.any(a != b) for a, b in zip(noisy, evaluated, strict=True))
    for i, name in enumerate(("first", "second")):
        found, moved = outputs(name)
        np.testing.assert_array_equal(found[i], evaluated[i])
        np.testing.assert_array_equal(found[1 - i], noisy[1 - i])
        before = variables["batch_stats"]["towers"]
        after = moved["batch_stats"]["towers"]
        jax.tree.map(np.testing.assert_array_equal, after[name], before[name])
        other = ("second", "first")[i]
        assert np.any(after[other]["norm"]["mean"] != before[other]["norm"]["mean"])


@pytest.mark.slow
def test_batch_statistics_of_a_frozen_tower_stay():
    config = load_config(
        "clip:clipin,tower=RN50,runlocal",
        (FREEZE, "batch_size=16", "model.text.depth=1", "model.text.vocab_size=64"),
    )
    with config.unlocked():
        config.model.image.update(depths=(1,), image_size=(8, 8))
    run = build_experiment(config, jax.devices()[:1])
    start = run.init_state()
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    after, _ = step(start, tiny_batch(config), run.hyper(0))
    for name in ("collections", "target_collections"):
        old, new = flat(getattr(start, name)), flat(getattr(after, name))
        tower = {path for path in old if IMAGE in path}
        assert tower and tower != set(old)
        for path in old:
            assert np.array_equal(old[path], new[path]) == (path in tower), path
