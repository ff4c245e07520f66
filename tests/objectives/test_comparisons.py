"""The controls of CLIPin: contrast instead of regression, one term, SimCLR."""

import jax
import numpy as np
import pytest

from clipin_jax.config import plug_clipin
from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import unit
from clipin_jax.objectives.clipin import Clipin
from clipin_jax.objectives.losses import info_nce, nt_xent
from clipin_jax.objectives.momentum_infonce import MomentumInfoNCE
from clipin_jax.objectives.simclr import Simclr
from tests.support.small_learner import (
    by_path,
    forward,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
    step,
)
from tests.support.tiny import tiny_config

HEADS = dict(projection_dim=6, predictor_hidden_dim=5)
VIEWS = dict(hidden_dim=12, projection_dim=7)
BATCH = make_batch()


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


def started(**objectives):
    learner = make_learner(**objectives)
    hyper = make_hyper(learner)
    return learner, start_state(learner, BATCH, hyper), hyper


def branches(learner, state, name):
    """Targets and online predictions of an objective."""

    def predict(module):
        features = module.towers.encode(BATCH["view1"])
        return module.objectives[name].predictions(features, True)

    memory = ["batch_stats"]
    targets, _ = learner.apply(
        state.target_variables, BATCH, method="targets", mutable=memory
    )
    predictions, _ = learner.apply(state.variables, method=predict, mutable=memory)
    return targets["view1"][name], predictions


def test_contrast_instead_of_regression():
    """The same heads and target; the loss is the contrast of their vectors."""
    name = "momentum_infonce"
    learner, state, hyper = started(momentum_infonce=MomentumInfoNCE(**HEADS))
    _, plain, _ = started(clipin=Clipin(**HEADS))
    for ours, theirs in (
        (state.params, plain.params),
        (state.target_params, plain.target_params),
    ):
        renamed = {path.replace(name, "clipin") for path in by_path(ours)}
        assert renamed == set(by_path(theirs))

    targets, predictions = branches(learner, state, name)
    temperature = float(hyper["objectives"][name]["temperature"])
    expected = {"inter": 0.0, "intra": 0.0}
    for pair, prediction in predictions.items():
        source, _, target = pair.partition("_to_")
        term = "intra" if source == target else "inter"
        expected[term] += slow_info_nce(
            np.array(prediction), np.array(targets[target]), temperature
        )
    _, (metrics, _) = forward(learner, state.params, state, BATCH, hyper)
    for term, value in expected.items():
        loss = metrics[f"{name}/{term}_loss"]
        np.testing.assert_allclose(loss, value, rtol=1e-4)


def test_the_plug_in_takes_contrast_or_regression():
    config = tiny_config(clipin=False).copy_and_resolve_references()
    with config.unlocked():
        plug_clipin(config, infonce_temperature=0.3, terms=("inter",))
    objective = build(config).objectives["momentum_infonce"]
    assert isinstance(objective, MomentumInfoNCE) and objective.terms == ("inter",)
    assert config.objectives.momentum_infonce.temperature == 0.3


def test_one_term_builds_only_its_predictors():
    learner, state, hyper = started(clipin=Clipin(**HEADS, terms=("inter",)))
    names = {path.split("/")[1] for path in by_path(state.params) if "predict" in path}
    assert names == {"predictors_image_to_text", "predictors_text_to_image"}
    _, (metrics, _) = forward(learner, state.params, state, BATCH, hyper)
    assert "clipin/intra_loss" not in metrics
    np.testing.assert_allclose(metrics["clipin/loss"], metrics["clipin/inter_loss"])


def test_two_views_get_a_loss_and_both_get_gradients():
    learner, state, hyper = started(simclr=Simclr(**VIEWS))
    images = tuple(
        np.random.default_rng(seed).normal(size=BATCH["view1"]["image"].shape)
        for seed in (0, 1)
    )
    images = tuple(np.float32(image) for image in images)

    def loss(images):
        views = {
            name: BATCH[name] | {"image": image}
            for name, image in zip(("view1", "view2"), images, strict=True)
        }
        value, (_, (collections, _)) = forward(
            learner, state.params, state, views, hyper
        )
        return value, collections

    (value, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(images)
    assert min(np.abs(g).max() for g in grads) > 0

    def heads(module):
        vectors = []
        for image in images:
            pooled = module.towers.encode({"image": image})["image"]["pooled"]
            vectors.append(module.objectives["simclr"].head(pooled, True))
        return vectors

    (first, second), expected = learner.apply(
        state.variables, method=heads, mutable=["batch_stats"]
    )
    slow = slow_nt_xent(np.array(first), np.array(second), 0.1)
    np.testing.assert_allclose(value, slow, rtol=1e-5)
    # The running statistics are those of both views, one after the other.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        stats,
        expected,
    )
    head = by_path(state.params["objectives_simclr"]["head"])
    shapes = {path: x.shape for path, x in head.items() if path.endswith("kernel")}
    assert shapes == {
        "hidden_0/kernel": (8, 12), "hidden_1/kernel": (12, 12), "out/kernel": (12, 7),
    }  # fmt: skip


def test_views_and_clipin_go_together():
    learner, state, hyper = started(simclr=Simclr(**VIEWS), clipin=Clipin(**HEADS))
    metrics = step(learner, state, BATCH, hyper).metrics
    total = metrics["simclr/loss"] + metrics["clipin/loss"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)
    assert not any("simclr" in path for path in by_path(state.target_params))


def test_a_single_view_is_refused():
    learner = make_learner(simclr=Simclr(**VIEWS))
    one = {"view1": BATCH["view1"]}
    with pytest.raises(ClipinError, match="data.views = 2"):
        start_state(learner, one, make_hyper(learner))
