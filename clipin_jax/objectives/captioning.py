"""Each next id of the caption from those before it and the image (CoCa, BLIP)."""

from typing import Any

import jax.numpy as jnp

from clipin_jax.objectives.base import Inputs, Objective, require_method
from clipin_jax.objectives.losses import masked_mean, token_cross_entropy
from clipin_jax.types import Array, Metrics


class Captioning(Objective):
    """Cross-entropy of the next id, the mean over all that are no padding.

    Source: CoCa, arXiv 2205.01917, eq. 3, `weight` 2; BLIP, arXiv 2201.12086, section
    3.2, with a label smoothing of 0.1. Both average over ids, not over captions.

    Attributes:
      label_smoothing: see `losses.token_cross_entropy`.
      pad_id: the id that fills up a row, which nobody has to predict.
    """

    label_smoothing: float = 0.0
    pad_id: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the share of next ids that are predicted right."""
        tower, text = inputs.towers.text, inputs.view["text"]
        require_method(tower, "decode", self)
        logits = tower.decode(
            text,
            inputs.features["text"]["tokens"],
            inputs.features["image"]["tokens"],
            inputs.train,
        )
        # The last position predicts padding: that is cheaper than to cut the logits.
        labels = jnp.pad(text[:, 1:], ((0, 0), (0, 1)), constant_values=self.pad_id)
        mask = labels != self.pad_id
        loss = token_cross_entropy(logits, labels, mask, self.label_smoothing)
        right = (jnp.argmax(logits, axis=-1) == labels).astype(loss.dtype)
        return loss, {"accuracy": masked_mean(right, mask)}
