"""Next-token prediction of the caption from the image (CoCa, BLIP)."""

import math

import jax.numpy as jnp

from clipin_jax.objectives.base import Inputs, ObjectiveModule, require_method
from clipin_jax.objectives.blockwise_losses.vocabulary import map_positions, read_logits
from clipin_jax.objectives.losses import Mean, token_cross_entropies
from clipin_jax.types import Array


class Captioning(ObjectiveModule):
    """Cross-entropy of the next id, the mean over all ids that are not padding.

    Source: CoCa, arXiv 2205.01917, eq. 3, `weight` 2; BLIP, arXiv 2201.12086, section
    3.2, with a label smoothing of 0.1. Both average over ids, not over captions.

    Attributes:
      label_smoothing: share of the label that is spread over the vocabulary.
      pad_id: the id of padding, which is not predicted.
      positions: of a text, whose logits are held at a time; 0 for all while those of a
        device have at most 256 MiB, else for as many as have that.
    """

    limits = {"label_smoothing": (0.0, 1.0), "positions": (0, math.inf)}
    label_smoothing: float = 0.0
    pad_id: int = 0
    positions: int = 0

    def means(self, inputs: Inputs) -> tuple[Mean, dict[str, Mean]]:
        """Returns the loss and the accuracy of the next id, see `AveragesPairs`.

        Raises:
          ClipinError: the text tower cannot decode.
        """
        tower = require_method(inputs.towers.text, "decode", self)
        text = inputs.view["text"]
        arguments = (
            text,
            inputs.features["text"]["tokens"],
            inputs.features["image"]["tokens"],
            inputs.train,
        )
        logits = read_logits(tower, "decode", arguments, self.positions)
        # The last position predicts padding: cheaper than a slice of the logits.
        labels = jnp.pad(text[:, 1:], ((0, 0), (0, 1)), constant_values=self.pad_id)
        mask = labels != self.pad_id
        losses, correct = map_positions(self._score, [logits], [labels], self.positions)
        accuracy = Mean.of(correct.astype(losses.dtype), mask)
        return Mean.of(losses, mask), {"accuracy": accuracy}

    def _score(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Returns the loss, and whether the largest logit is that of the label."""
        losses = token_cross_entropies(logits, labels, self.label_smoothing)
        return losses, jnp.argmax(logits, axis=-1) == labels
