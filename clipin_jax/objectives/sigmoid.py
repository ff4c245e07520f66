"""A binary decision for every pair of image and text (SigLIP, arXiv 2303.15343)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.objectives.base import Inputs, Objective
from clipin_jax.objectives.duplicates import (
    check_choice,
    duplicate_metrics,
    find_duplicates,
    read_ids,
    resolve,
)
from clipin_jax.objectives.losses import diagonal_accuracy, sigmoid_contrastive, without
from clipin_jax.types import Array, Metrics


class Sigmoid(Objective):
    """Sigmoid loss over all pairs of the global batch, with a learned offset.

    Attributes:
      init_temperature: `logit_scale` starts at the log of its inverse.
      init_bias: where `logit_bias` starts; far below 0, since nearly all pairs are
        negative.
      duplicates: what pairs with the same picture or caption are to each other:
        `ignore`, wrong answers like all others; `mask`, no answers; `multi_positive`,
        right ones. Accuracies leave them out, but for `ignore`.
    """

    init_temperature: float = 0.1
    init_bias: float = -10.0
    duplicates: str = "ignore"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        constant = nn.initializers.constant
        scale = constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", scale, (), self.param_dtype)
        bias = constant(self.init_bias)
        self.logit_bias = self.param("logit_bias", bias, (), self.param_dtype)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the accuracy of both directions.

        Raises:
          ClipinError: the data does not say what is a duplicate.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        logits = scale * image @ text.T + self.logit_bias  # [B, B]
        same = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        ranked = without(logits, same)
        metrics = {
            "logit_scale": scale,
            "logit_bias": self.logit_bias,
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(same),
        }
        loss = sigmoid_contrastive(*resolve(self.duplicates, logits, same))
        return loss, metrics
