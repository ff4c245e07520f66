"""InfoNCE between images and texts (CLIP, arXiv 2103.00020)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.objectives.base import POOLED, Inputs, ObjectiveModule
from clipin_jax.objectives.blockwise_losses.pairs import Pairs, check_impl, make_plan
from clipin_jax.objectives.blockwise_losses.softmax import blockwise_softmax
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
      impl: how the logits of all pairs are held: `dense`, all at once; `chunked`, some
        texts at a time, all of which are gathered; `ring`, the texts of a device at a
        time, which travel round the devices. `auto` is `dense` while the logits of a
        device have at most 64 MiB, else `ring`, which on one device is `chunked`.
    """

    limits = {"label_smoothing": (0.0, 1.0)}
    reads = (POOLED,)
    init_temperature: float = 0.07
    duplicates: str = "ignore"
    label_smoothing: float = 0.0
    impl: str = "auto"

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        check_impl(self, self.impl)
        start = nn.initializers.constant(-jnp.log(self.init_temperature))
        self.logit_scale = self.param("logit_scale", start, (), self.param_dtype)

    def num_choices(self, batch_size: int) -> int:
        """Returns the number of candidates of an image or a text."""
        return batch_size

    def scale_cosines(self, cosine: Array) -> tuple[Array, Array]:
        """Returns logits, and the probability of each text among those of its row."""
        logits = jnp.exp(self.logit_scale) * cosine
        return logits, jax.nn.softmax(logits, axis=1)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy of both directions.

        Raises:
          ClipinError: the data has no ids to find duplicates by.
        """
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        scale = jnp.exp(self.logit_scale)
        ids = read_ids(self, self.duplicates, inputs.view)
        rules = self.duplicates, self.label_smoothing
        if plan := make_plan(self.impl, len(image), *rules):
            loss, metrics = blockwise_softmax(Pairs(image, text, scale, ids), plan)
        else:
            loss, metrics = self._dense(scale * image @ text.T, find_duplicates(ids))
        return loss, {"logit_scale": scale, **metrics}

    def _dense(self, logits: Array, duplicates: Array | None) -> tuple[Array, Metrics]:
        """Returns the loss and accuracies of all logits and duplicates, [B, B]."""
        ranked = mask_logits(logits, duplicates)
        metrics = {
            "image_to_text_accuracy": diagonal_accuracy(ranked),
            "text_to_image_accuracy": diagonal_accuracy(ranked.T),
            **duplicate_metrics(duplicates),
        }
        logits, positives = apply_choice(self.duplicates, logits, duplicates)
        return softmax_contrastive(logits, positives, self.label_smoothing), metrics
