from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.objectives.base import Inputs
from clipin_jax.objectives.captioning import Captioning
from tests.support.objective_inputs import objective_inputs

TEXT = jnp.array([[8, 1, 2, 9, 0], [8, 3, 9, 0, 0]])


class NextIdTower:
    """A text tower that predicts the right next id with a given logit."""

    def __init__(self, confidence: float):
        self.confidence = confidence

    def decode(self, text, text_tokens, image_tokens, train):
        following = jnp.pad(text[:, 1:], ((0, 0), (0, 1)))
        wrong = jnp.where(following == 0, 5, following)  # at padding it is wrong
        return self.confidence * jax.nn.one_hot(wrong, 10)


def inputs(tower) -> Inputs:
    features = {m: {"tokens": jnp.zeros((2, 5, 4))} for m in ("image", "text")}
    view = {"text": TEXT}
    towers = SimpleNamespace(text=tower)
    return objective_inputs(features, towers=towers, view=view, train=False)


def run(confidence: float, **options):
    return Captioning(**options).apply({}, inputs(NextIdTower(confidence)))


def test_padding_and_the_start_mark_do_not_count():
    loss, metrics = run(50.0)
    assert loss < 1e-6 and metrics["accuracy"] == 1
    loss, _ = run(0.0)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def test_label_smoothing_gives_confident_predictions_a_loss():
    smooth, _ = run(50.0, label_smoothing=0.1)
    np.testing.assert_allclose(smooth, 0.1 * 50 * 9 / 10, rtol=1e-5)


def test_a_tower_that_cannot_decode():
    tower = TextTransformer(8, 1, 1, 5, 10, name="text")
    with pytest.raises(ClipinError, match="needs a tower that can decode"):
        Captioning().apply({}, inputs(tower))
