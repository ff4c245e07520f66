"""Objectives that turn cosines into the logits and probabilities of their loss."""

import jax
import numpy as np
import pytest

from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.objectives.momentum_contrastive import MomentumContrastive
from clipin_jax.objectives.sigmoid import Sigmoid

COSINE = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
SOFTMAX = {"logit_scale": np.log(np.float32(20))}


@pytest.mark.parametrize(
    ("objective", "params", "logits", "probabilities"),
    [
        (Contrastive(), SOFTMAX, 20 * COSINE, jax.nn.softmax),
        (
            MomentumContrastive(queue_length=0),
            {"temperature": {"value": np.float32(0.05)}},
            20 * COSINE,
            jax.nn.softmax,
        ),
        (
            Sigmoid(),
            {**SOFTMAX, "logit_bias": np.float32(-3)},
            20 * COSINE - 3,
            jax.nn.sigmoid,
        ),
    ],
)
def test_cosines_are_scaled_as_in_the_loss(objective, params, logits, probabilities):
    found = objective.apply({"params": params}, COSINE, method="scale_cosines")
    np.testing.assert_allclose(found[0], logits, rtol=1e-5)
    np.testing.assert_allclose(found[1], probabilities(logits), rtol=1e-4)
