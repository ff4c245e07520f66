"""A binary classification of every image-text pair (SigLIP, arXiv 2303.15343)."""

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.objectives.duplicates import (
    apply_choice,
    check_choice,
    duplicate_metrics,
    find_duplicates,
    read_ids,
)
from clipin_jax.objectives.losses import (
    diagonal_accuracy,
    mask_logits,
    sigmoid_contrastive,
)
from clipin_jax.types import Array, Metrics


class Sigmoid(ObjectiveModule):
    """Sigmoid loss over all pairs of the global batch, with a learned bias.

    Attributes:
      init_temperature: `logit_scale` starts at the log of its inverse.
      init_bias: the start of `logit_bias`; far below 0, since nearly all pairs are
        negatives.
      duplicates: how pairs with an equal image or caption are treated: `ignore`, as
        negatives; `mask`, neither as negatives nor as positives; `multi_positive`, as
        positives. Accuracies do not count duplicates, except with `ignore`.
    """

    init_temperature: float = 0.1
    init_bias: float = -10.0
    duplicates: str = "ignore"

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        constant = nn.initializers.constant
        scale = constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", scale, (), self.param_dtype)
        bias = constant(self.init_bias)
        self.logit_bias = self.param("logit_bias", bias, (), self.param_dtype)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy of both directions.

        Raises:
          ClipinError: the data has no ids to find duplicates by.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        logits = scale * image @ text.T + self.logit_bias  # [B, B]
        duplicates = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        ranked = mask_logits(logits, duplicates)
        metrics = {
            "logit_scale": scale,
            "logit_bias": self.logit_bias,
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(duplicates),
        }
        logits, positives = apply_choice(self.duplicates, logits, duplicates)
        return sigmoid_contrastive(logits, positives), metrics
