"""CLIPin without what keeps it from collapse: no average, no stop, no predictors."""

import jax
import numpy as np
import pytest

from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.models.layers import unit
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config

SHALLOW = ("model.image.depth=1", "model.text.depth=1")


def siamese(**options):
    config = tiny_config(*SHALLOW).copy_and_resolve_references()
    with config.unlocked():
        plug = config.objectives.clipin.to_dict() | options
        del plug["target_view"]
        del config.objectives["clipin"]
        config.objectives.siamese = plug
    return build_experiment(config, jax.devices()[:1])


def paths(tree):
    return {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)}


def value_and_slope(run):
    """The loss of the plug-in, and its gradient in the second view's pixels."""
    state, batch = run.init_state(), tiny_batch(run.config)
    pixels = np.float32(np.random.default_rng(0).standard_normal((16, 32, 32, 3)))

    def loss(second):
        views = {"view1": batch["view1"], "view2": batch["view2"] | {"image": second}}
        (_, metrics), _ = run.learner.apply(
            state.variables, views, {"view1": {}}, run.hyper(0), mutable=["batch_stats"]
        )
        return metrics["siamese/loss"]

    value, slope = jax.jit(jax.value_and_grad(loss))(pixels)
    return float(value), float(np.abs(slope).max())


def test_nothing_is_averaged_and_a_step_is_finite():
    run = siamese()
    assert not jax.tree.leaves(run.abstract_state.target_params)
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    _, metrics = step(run.init_state(), tiny_batch(run.config), run.hyper(0))
    assert np.isfinite(metrics["loss"]) and metrics["skipped"] == 0


def test_the_gradient_stops_only_where_it_should():
    stopped, through = (
        value_and_slope(siamese(stop_gradient=s)) for s in (True, False)
    )
    assert stopped[0] == pytest.approx(through[0], rel=1e-6)
    assert stopped[1] == 0 and through[1] > 0


def test_with_the_online_network_as_target_it_is_clipin():
    """At the first step the average equals the online network."""
    plain = build_experiment(tiny_config(*SHALLOW), jax.devices()[:1])
    batch = tiny_batch(plain.config)
    losses = {}
    for name, run in {"clipin": plain, "siamese": siamese()}.items():
        step = jax.jit(make_train_step(run.learner, run.optimizer))
        state = run.init_state()
        heads = state.params[f"objectives_{name}"]
        losses[name] = heads, step(state, batch, run.hyper(0))[1][f"{name}/inter_loss"]
    # Initial weights follow the modules' names, which differ for the heads only.
    assert paths(losses["clipin"][0]) == paths(losses["siamese"][0])
    assert 0 < losses["siamese"][1] < 4 and 0 < losses["clipin"][1] < 4


def test_it_offers_no_comparison_with_a_target_that_it_lacks():
    encode = make_encode_fns(siamese().learner)
    with pytest.raises(ClipinError, match="similarity 'prediction' needs a model"):
        encode.prediction(12)


def test_without_predictors_the_projections_predict():
    run = siamese(predictor_hidden_dim=0)
    assert not any("predictors" in path for path in paths(run.abstract_state.params))
    state, batch = run.init_state(), tiny_batch(run.config)

    def vectors(module):
        features = module.towers.encode(batch["view1"])
        objective = module.objectives["siamese"]
        projected = objective.project(features, True)
        return objective.predict(features, True), projected

    (predicted, projected), _ = jax.jit(
        lambda v: run.learner.apply(v, method=vectors, mutable=["batch_stats"])
    )(state.variables)
    for name, prediction in predicted.items():
        expected = unit(projected[name.partition("_to_")[0]])
        np.testing.assert_allclose(prediction, expected, rtol=1e-5, atol=1e-6)
