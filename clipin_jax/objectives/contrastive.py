"""InfoNCE between images and texts (CLIP, arXiv 2103.00020)."""

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
from clipin_jax.objectives.losses import diagonal_accuracy, softmax_contrastive, without
from clipin_jax.types import Array, Metrics


class Contrastive(Objective):
    """Symmetric cross-entropy over all pairs of the global batch.

    Attributes:
      init_temperature: `logit_scale` starts at the log of its inverse. The bounds
        [0, ln 100] of `logit_scale` belong to the optimizer: `optim.bounds`.
      duplicates: what pairs with the same picture or caption are to each other:
        `ignore`, wrong answers like all others; `mask`, no answers; `multi_positive`,
        right ones. Accuracies leave them out, but for `ignore`.
      label_smoothing: share of the right answer that goes to all answers alike.
    """

    init_temperature: float = 0.07
    duplicates: str = "ignore"
    label_smoothing: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        start = nn.initializers.constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", start, (), self.param_dtype)

    def num_choices(self, batch_size: int) -> int:
        """Among how many a pair is looked for."""
        return batch_size

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the accuracy of both directions.

        Raises:
          ClipinError: the data does not say what is a duplicate.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        logits = scale * image @ text.T  # [B, B]
        same = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        ranked = without(logits, same)
        metrics = {
            "logit_scale": scale,
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(same),
        }
        answers = resolve(self.duplicates, logits, same)
        return softmax_contrastive(*answers, self.label_smoothing), metrics
