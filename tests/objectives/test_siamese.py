"""CLIPin without an average: the gradient of its targets; no predictors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.models.layers import unit
from clipin_jax.objectives.clipin import Clipin
from clipin_jax.objectives.siamese import Siamese
from tests.support.small_learner import (
    by_path,
    forward,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
)

HEADS = dict(projection_dim=6, predictor_hidden_dim=5)
BATCH = make_batch()


def started(**options):
    learner = make_learner(siamese=Siamese(**HEADS | options))
    hyper = make_hyper(learner)
    return learner, start_state(learner, BATCH, hyper), hyper


def loss_and_gradient(**options):
    """The loss, and its gradient by the pixels of the second view."""
    learner, state, hyper = started(**options)
    pixels = jnp.asarray(BATCH["view2"]["image"] / 255, jnp.float32)

    def loss(second):
        batch = BATCH | {"view2": BATCH["view2"] | {"image": second}}
        return forward(learner, state.params, state, batch, hyper)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(pixels)
    return float(value), float(np.abs(gradient).max())


def test_stop_gradient_stops_the_gradient_of_the_targets_alone():
    stopped, through = (loss_and_gradient(stop_gradient=s) for s in (True, False))
    assert stopped[0] == pytest.approx(through[0], rel=1e-6)
    assert stopped[1] == 0 and through[1] > 0


def test_equal_parameters_give_the_loss_of_clipin_at_its_first_step():
    """At the first step the average equals the online network."""
    siamese, state, hyper = started()
    clipin = make_learner(clipin=Clipin(**HEADS))
    averaged = start_state(clipin, BATCH, make_hyper(clipin))
    heads = state.params["objectives_siamese"]
    assert set(by_path(heads)) == set(by_path(averaged.params["objectives_clipin"]))

    params = {"towers": state.params["towers"], "objectives_clipin": heads}
    stats = state.collections["batch_stats"]["objectives_siamese"]
    targets, _ = clipin.apply(
        {"params": params, "batch_stats": {"objectives_clipin": stats}},
        BATCH, method="targets", mutable=["batch_stats"],
    )  # fmt: skip
    (loss, _), _ = clipin.apply(
        {"params": params, "batch_stats": {"objectives_clipin": stats}},
        BATCH, targets, make_hyper(clipin), mutable=["batch_stats"],
    )  # fmt: skip
    expected, _ = forward(siamese, state.params, state, BATCH, hyper)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_similarity_prediction_needs_a_target():
    encode = make_encode_fns(started()[0])
    with pytest.raises(ClipinError, match="similarity 'prediction' needs a model"):
        encode.prediction(6)


@pytest.mark.parametrize("predictor", ["none", "residual", "linear"])
def test_the_first_predictions_are_the_projections(predictor):
    learner = make_learner(siamese=Siamese(**HEADS, predictor=predictor))
    rngs = {name: jax.random.key(0) for name in ("params", "dropout", "sample")}
    first = jax.jit(functools.partial(learner.init, method="initialize"))
    variables = first(rngs, BATCH, make_hyper(learner))
    has_parameters = any("predictors" in path for path in by_path(variables))
    assert has_parameters == (predictor != "none")

    def vectors(module):
        features = module.towers.encode(BATCH["view1"])
        objective = module.objectives["siamese"]
        return objective.predict(features, True), objective.project(features, True)

    (predicted, projected), _ = learner.apply(
        variables, method=vectors, mutable=["batch_stats"]
    )
    for name, prediction in predicted.items():
        expected = unit(projected[name.partition("_to_")[0]])
        np.testing.assert_allclose(prediction, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["predictor", "head_init"])
def test_an_unknown_option_of_the_heads_is_named(option):
    with pytest.raises(ClipinError, match=rf"{option} is 'residul'"):
        started(**{option: "residul"})
