"""The contracts of the plug-in: what it adds, and what it must not change."""

import collections

import flax.linen as nn
import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.step import make_train_step
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config

ONE = slice(0, 1)


def run_of(*overrides, clipin=True):
    return build_experiment(tiny_config(*overrides, clipin=clipin), jax.devices()[ONE])


def paths(tree):
    return {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_the_target_averages_what_it_uses_and_no_predictor():
    target = paths(run_of().abstract_state.target_params)
    assert not any("predictor" in p for p in target)
    assert not any("projection/" in p for p in target)  # the contrastive heads
    assert not any("contrastive" in p for p in target)
    for part in ("towers/image/", "towers/text/", "pre_projector/", "projector/out/"):
        assert any(part in p for p in target), part


def test_without_targets_nothing_is_averaged():
    state = run_of(clipin=False).abstract_state
    assert not jax.tree.leaves(state.target_params)
    assert not jax.tree.leaves(state.target_collections)


def test_the_target_has_other_batch_statistics():
    state = run_of().abstract_state
    online = paths(state.collections["batch_stats"])
    target = paths(state.target_collections["batch_stats"])
    assert target == {p for p in online if "projector/norm" in p}


def test_towers_start_bit_equal_with_and_without_the_plug_in():
    plain = run_of(clipin=False).init_state().params
    plugged = run_of().init_state().params
    for tower in ("image", "text"):
        jax.tree.map(
            np.testing.assert_array_equal,
            plain["towers"][tower],
            plugged["towers"][tower],
        )


def test_weight_zero_leaves_the_hosts_update_bit_equal():
    zero = (
        "model.pre_projector=0",
        "model.projection_init=released",
        "objectives.clipin.weight=0.0",
    )
    plain = two_steps(run_of(clipin=False))
    plugged = two_steps(run_of(*zero))
    for part in plain.params:
        jax.tree.map(
            np.testing.assert_array_equal, plain.params[part], plugged.params[part]
        )


def two_steps(run):
    state = run.init_state()
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    for k in range(2):
        state, _ = step(state, tiny_batch(run.config, seed=k), run.hyper(k))
    return jax.device_get(state)


def test_no_gradient_reaches_the_target():
    run = run_of()
    state, batch = run.init_state(), tiny_batch(run.config)

    def loss(target_params):
        targets, _ = run.learner.apply(
            {"params": target_params, **state.target_collections},
            batch,
            method="targets",
            mutable=["batch_stats"],
        )
        (value, _), _ = run.learner.apply(
            state.variables, batch, targets, run.hyper(0), mutable=["batch_stats"]
        )
        return value

    # The loss does depend on the target: only the step must not differentiate it.
    grads = jax.tree.leaves(jax.grad(loss)(state.target_params))
    assert max(np.abs(g).max() for g in grads) > 0
    moved, _ = jax.jit(make_train_step(run.learner, run.optimizer))(
        state, batch, run.hyper(0)
    )
    decay = float(run.hyper(0)["target"]["decay"])
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new,
        state.target_params,
        {k: _like(moved.params[k], v) for k, v in state.target_params.items()},
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        moved.target_params,
        expected,
    )
    assert "target_params" not in str(jax.tree.structure(state.opt_state))


def _like(tree, like):
    return (
        {k: _like(tree[k], v) for k, v in like.items()}
        if isinstance(like, dict)
        else tree
    )


def test_terms_build_only_their_predictors():
    inter = paths(run_of('objectives.clipin.terms=("inter",)').abstract_state.params)
    assert any("image_to_text" in p for p in inter)
    assert not any("image_to_image" in p for p in inter)


@pytest.mark.parametrize(
    ("spec", "masked"), [("albef:clipin,runlocal", 1), ("blip:clipin,runlocal", 0)]
)
def test_the_target_encodes_each_input_of_a_view_once(spec, masked):
    """Besides both views, the texts with masks that it predicts words for."""
    run = build_experiment(load_config(spec), jax.devices()[ONE])
    calls = collections.Counter()

    def targets(variables, batch):
        names = {id(x): path_name(p) for p, x in jax.tree.leaves_with_path(batch)}

        def count(method, args, kwargs, context):
            if context.method_name == "__call__":
                if context.module.path == ("towers", "text"):
                    calls[names[id(args[0])]] += 1  # the array of the batch itself
                if context.module.path == ("towers", "image"):
                    calls["image"] += 1
            return method(*args, **kwargs)

        with nn.intercept_methods(count):
            return run.learner.apply(
                variables, batch, method="targets", mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )  # fmt: skip

    jax.eval_shape(targets, run.abstract_state.target_variables, run.abstract_batch)
    texts = {"view1/text": 1, "view2/text": 1, "view1/masked_text": masked}
    assert calls == collections.Counter({**texts, "image": 2})
