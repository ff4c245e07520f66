"""A binary classification of every image-text pair (SigLIP, arXiv 2303.15343)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.objectives.base import POOLED, Inputs, ObjectiveModule
from clipin_jax.objectives.blockwise_losses.pairs import Pairs, check_impl, make_plan
from clipin_jax.objectives.blockwise_losses.sigmoid import blockwise_sigmoid
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
      impl: how the logits of all pairs are held, see `Contrastive`.
    """

    reads = (POOLED,)
    init_temperature: float = 0.1
    init_bias: float = -10.0
    duplicates: str = "ignore"
    impl: str = "auto"

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        check_impl(self, self.impl)
        constant = nn.initializers.constant
        scale = constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", scale, (), self.param_dtype)
        bias = constant(self.init_bias)
        self.logit_bias = self.param("logit_bias", bias, (), self.param_dtype)

    def scale_cosines(self, cosine: Array) -> tuple[Array, Array]:
        """Returns logits, and the probability of each pair, independent of others."""
        logits = jnp.exp(self.logit_scale) * cosine + self.logit_bias
        return logits, jax.nn.sigmoid(logits)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy of both directions.

        Raises:
          ClipinError: the data has no ids to find duplicates by.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        bias = self.logit_bias
        ids = read_ids(self, self.duplicates, inputs.view)
        if plan := make_plan(self.impl, len(image), self.duplicates):
            pairs = Pairs(image, text, scale, ids, bias)
            loss, metrics = blockwise_sigmoid(pairs, plan)
        else:
            logits = scale * image @ text.T + bias
            loss, metrics = self._dense(logits, find_duplicates(ids))
        return loss, {"logit_scale": scale, "logit_bias": bias, **metrics}

    def _dense(self, logits: Array, duplicates: Array | None) -> tuple[Array, Metrics]:
        """Returns the loss and accuracies of all logits and duplicates, [B, B]."""
        ranked = mask_logits(logits, duplicates)
        metrics = {
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(duplicates),
        }
        logits, positives = apply_choice(self.duplicates, logits, duplicates)
        return sigmoid_contrastive(logits, positives), metrics
