"""Next-token prediction of the caption from the image (CoCa, BLIP)."""

import jax.numpy as jnp

from clipin_jax.models.base import DecodingTower
from clipin_jax.objectives.base import Inputs, ObjectiveModule, require_method
from clipin_jax.objectives.losses import masked_mean, token_cross_entropy
from clipin_jax.types import Array, Metrics


class Captioning(ObjectiveModule):
    """Cross-entropy of the next id, the mean over all ids that are not padding.

    Source: CoCa, arXiv 2205.01917, eq. 3, `weight` 2; BLIP, arXiv 2201.12086, section
    3.2, with a label smoothing of 0.1. Both average over ids, not over captions.

    Attributes:
      label_smoothing: see `losses.token_cross_entropy`.
      pad_id: the id of padding, which is not predicted.
    """

    limits = {"label_smoothing": (0.0, 1.0)}
    label_smoothing: float = 0.0
    pad_id: int = 0

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the accuracy of the next id.

        Raises:
          ClipinError: the text tower cannot decode.
        """
        tower: DecodingTower = require_method(inputs.towers.text, "decode", self)
        text = inputs.view["text"]
        logits = tower.decode(
            text,
            inputs.features["text"]["tokens"],
            inputs.features["image"]["tokens"],
            inputs.train,
        )
        # The last position predicts padding: cheaper than a slice of the logits.
        labels = jnp.pad(text[:, 1:], ((0, 0), (0, 1)), constant_values=self.pad_id)
        mask = labels != self.pad_id
        loss = token_cross_entropy(logits, labels, mask, self.label_smoothing)
        correct = (jnp.argmax(logits, axis=-1) == labels).astype(loss.dtype)
        return loss, {"accuracy": masked_mean(correct, mask)}
