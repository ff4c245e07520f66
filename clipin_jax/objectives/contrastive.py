"""InfoNCE between images and texts (CLIP, arXiv 2103.00020)."""

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
    softmax_contrastive,
)
from clipin_jax.types import Array, Metrics


class Contrastive(ObjectiveModule):
    """Symmetric cross-entropy over all pairs of the global batch.

    Attributes:
      init_temperature: `logit_scale` starts at the log of its inverse. The optimizer
        keeps `logit_scale` in [0, ln 100], see `optim.bounds`.
      duplicates: how pairs with an equal image or caption are treated: `ignore`, as
        negatives; `mask`, neither as negatives nor as positives; `multi_positive`, as
        positives. Accuracies do not count duplicates, except with `ignore`.
      label_smoothing: share of the positive that is spread over all candidates.
    """

    limits = {"label_smoothing": (0.0, 1.0)}
    init_temperature: float = 0.07
    duplicates: str = "ignore"
    label_smoothing: float = 0.0

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        start = nn.initializers.constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", start, (), self.param_dtype)

    def num_choices(self, batch_size: int) -> int:
        """Returns the number of candidates of an image or a text."""
        return batch_size

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy of both directions.

        Raises:
          ClipinError: the data has no ids to find duplicates by.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        logits = scale * image @ text.T  # [B, B]
        duplicates = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        ranked = mask_logits(logits, duplicates)
        metrics = {
            "logit_scale": scale,
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(duplicates),
        }
        logits, positives = apply_choice(self.duplicates, logits, duplicates)
        loss = softmax_contrastive(logits, positives, self.label_smoothing)
        return loss, metrics
