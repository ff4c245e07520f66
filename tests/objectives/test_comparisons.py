"""What CLIPin is compared with: contrast in its place, its inter term alone, SimCLR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import plug_clipin
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import unit
from clipin_jax.objectives.losses import info_nce, nt_xent
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config

SMALL = dict(pre_projector=16, projection_dim=24, predictor_hidden_dim=8)
SHALLOW = ("model.image.depth=1", "model.text.depth=1")
VIEWS = dict(weight=1.0, temperature=0.1, hidden_dim=12, projection_dim=8)


def directions(seed, rows=6, width=10):
    return np.array(unit(np.random.default_rng(seed).standard_normal((rows, width))))


def slow_info_nce(queries, keys, temperature):
    total = 0.0
    for i, q in enumerate(queries):
        scores = [q @ k / temperature for k in keys]
        total += np.log(sum(np.exp(scores))) - scores[i]
    return total / len(queries)


def slow_nt_xent(first, second, temperature):
    both = [*first, *second]
    total = 0.0
    for i, anchor in enumerate(both):
        positive = (i + len(first)) % len(both)
        others = [j for j in range(len(both)) if j != i]
        scores = {j: anchor @ both[j] / temperature for j in others}
        total += np.log(sum(np.exp(list(scores.values())))) - scores[positive]
    return total / len(both)


FORMULAS = {info_nce: slow_info_nce, nt_xent: slow_nt_xent}


@pytest.mark.parametrize("formula", FORMULAS)
def test_contrast_and_its_gradient_against_a_loop(formula):
    with jax.enable_x64(True):
        x, y = directions(0), directions(1)
        slow = FORMULAS[formula]
        got, grads = jax.value_and_grad(formula, argnums=(0, 1))(x, y, 0.2)
        np.testing.assert_allclose(got, slow(x, y, 0.2), rtol=1e-12)
        for side, (i, k) in [(s, p) for s in (0, 1) for p in np.ndindex(3, 4)]:
            step = np.zeros((2, *x.shape))
            step[side, i, k] = 1e-5
            up = slow(x + step[0], y + step[1], 0.2)
            down = slow(x - step[0], y - step[1], 0.2)
            slope = (up - down) / 2e-5
            np.testing.assert_allclose(grads[side][i, k], slope, rtol=1e-6, atol=1e-8)


def test_contrast_at_its_extremes():
    same, apart = np.tile(directions(0)[:1], (6, 1)), np.eye(6, 10)
    np.testing.assert_allclose(info_nce(same, same, 0.1), np.log(6), rtol=1e-6)
    np.testing.assert_allclose(nt_xent(same, same, 0.1), np.log(11), rtol=1e-6)
    np.testing.assert_allclose(info_nce(apart, apart, 0.01), 0, atol=1e-6)
    np.testing.assert_allclose(nt_xent(apart, apart, 0.01), 0, atol=1e-6)


@pytest.mark.parametrize("formula", FORMULAS)
def test_contrast_does_not_depend_on_the_order_of_the_batch(formula):
    x, y = directions(0), directions(1)
    order = np.random.default_rng(0).permutation(6)
    expected = formula(x, y, 0.2)
    np.testing.assert_allclose(formula(x[order], y[order], 0.2), expected, rtol=1e-5)
    assert abs(formula(x, y[order], 0.2) - expected) > 1e-3


def test_view_contrast_is_symmetric():
    x, y = directions(0), directions(1)
    np.testing.assert_allclose(nt_xent(x, y, 0.2), nt_xent(y, x, 0.2), rtol=1e-6)


def plugged(**options):
    """Tiny CLIP with a form of CLIPin plugged in."""
    config = tiny_config(*SHALLOW, clipin=False).copy_and_resolve_references()
    with config.unlocked():
        plug_clipin(config, **SMALL | options)
    return build_experiment(config, jax.devices()[:1])


def one_step(run, batch=None):
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    batch = tiny_batch(run.config) if batch is None else batch
    return step(run.init_state(), batch, run.hyper(0))


def paths(tree):
    return {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_contrast_in_the_place_of_regression():
    """The same heads and target; the loss is the contrast of what they say."""
    run, plain = plugged(infonce_temperature=0.3), plugged()
    state, metrics = one_step(run)
    there = paths(plain.abstract_state.params)
    here = paths(state.params)
    assert {p.replace("momentum_infonce", "clipin") for p in here} == there
    renamed = {
        p.replace("momentum_infonce", "clipin") for p in paths(state.target_params)
    }
    assert renamed == paths(plain.abstract_state.target_params)

    start, batch = run.init_state(), tiny_batch(run.config)
    memory = ["batch_stats"]

    def predict(module):
        features = module.towers.encode(batch["view1"])
        return module.objectives["momentum_infonce"].predictions(features, True)

    @jax.jit
    def both_branches(state):
        targets, _ = run.learner.apply(
            state.target_variables, batch, method="targets", mutable=memory
        )
        predictions, _ = run.learner.apply(
            state.variables, method=predict, mutable=memory
        )
        return targets["view1"]["momentum_infonce"], predictions

    targets, predictions = both_branches(start)
    expected = {"inter": 0.0, "intra": 0.0}
    for name, prediction in predictions.items():
        source, _, target = name.partition("_to_")
        term = "intra" if source == target else "inter"
        expected[term] += slow_info_nce(
            np.array(prediction), np.array(targets[target]), 0.3
        )
    for term, value in expected.items():
        got = metrics[f"momentum_infonce/{term}_loss"]
        np.testing.assert_allclose(got, value, rtol=1e-4)
    moved = [
        np.abs(a - b).max()
        for a, b in zip(
            jax.tree.leaves(start.target_params),
            jax.tree.leaves(state.target_params),
            strict=True,
        )
    ]
    assert max(moved) > 0


def test_regression_between_modalities_alone_with_small_heads():
    small = dict(projection_dim=128, predictor_hidden_dim=2048, decay=0.99)
    state, metrics = one_step(plugged(terms=("inter",), **small))
    predictors = {p.split("/")[1] for p in paths(state.params) if "predictors" in p}
    assert predictors == {"predictors_image_to_text", "predictors_text_to_image"}
    assert "clipin/intra_loss" not in metrics
    np.testing.assert_allclose(metrics["clipin/loss"], metrics["clipin/inter_loss"])
    assert metrics["skipped"] == 0


def simclr_run(views=2):
    config = tiny_config(*SHALLOW, clipin=False).copy_and_resolve_references()
    with config.unlocked():
        config.objectives.simclr = dict(VIEWS)
        config.data.views = views
    return build_experiment(config, jax.devices()[:1])


def test_views_find_each_other_with_gradient_to_both():
    run = simclr_run()
    state, batch = run.init_state(), tiny_batch(run.config)

    def loss(images):
        first, second = images
        views = {
            "view1": batch["view1"] | {"image": first},
            "view2": batch["view2"] | {"image": second},
        }
        (_, metrics), moved = run.learner.apply(
            state.variables, views, {"view1": {}}, run.hyper(0), mutable=["batch_stats"]
        )
        return metrics["simclr/loss"], moved

    shape = batch["view1"]["image"].shape
    images = tuple(np.float32(directions(s, 1, np.prod(shape))) for s in (0, 1))
    images = tuple(30 * x.reshape(shape) for x in images)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, moved), grads = gradient(images)
    assert min(np.abs(g).max() for g in grads) > 0

    def heads(module):
        vectors = []
        for image in images:
            pooled = module.towers.encode({"image": image})["image"]["pooled"]
            vectors.append(module.objectives["simclr"].head(pooled, True))
        return vectors

    @jax.jit
    def apply(variables):
        return run.learner.apply(variables, method=heads, mutable=["batch_stats"])

    (first, second), expected = apply(state.variables)
    slow = slow_nt_xent(np.array(first), np.array(second), VIEWS["temperature"])
    np.testing.assert_allclose(value, slow, rtol=1e-5)
    # the running statistics have seen both views, one after the other
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        moved,
        expected,
    )
    shapes = {
        path_name(p): x.shape
        for p, x in jax.tree_util.tree_leaves_with_path(
            state.params["objectives_simclr"]["head"]
        )
        if path_name(p).endswith("kernel")
    }
    assert shapes == {
        "hidden_0/kernel": (32, 12), "hidden_1/kernel": (12, 12), "out/kernel": (12, 8),
    }  # fmt: skip


def test_views_and_clipin_go_together():
    config = tiny_config(*SHALLOW).copy_and_resolve_references()
    with config.unlocked():
        config.objectives.simclr = dict(VIEWS)
    state, metrics = one_step(build_experiment(config, jax.devices()[:1]))
    assert jnp.isfinite(metrics["loss"]) and metrics["skipped"] == 0
    assert not any("simclr" in p for p in paths(state.target_params))


def test_one_view_only_is_refused():
    with pytest.raises(ClipinError, match="data.views = 2"):
        _ = simclr_run(views=1).abstract_state
