"""Masked language modelling with the image (ALBEF).

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 7; reference: salesforce/ALBEF,
`models/model_pretrain.py`. Masking is BERT's and happens in the data pipeline.
"""

import math

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.base import Towers
from clipin_jax.models.layers import at_least_float32
from clipin_jax.objectives.base import Inputs, ObjectiveModule, require_method
from clipin_jax.objectives.blockwise_losses.vocabulary import (
    Logits,
    map_positions,
    read_logits,
)
from clipin_jax.objectives.losses import Mean, soft_cross_entropies
from clipin_jax.types import Array, Features, View


class MaskedLM(ObjectiveModule):
    """Cross-entropy over masked positions, in part distilled from the target network.

    With the `distillation` share a, it is (1 - a) times the cross-entropy of the
    original id plus a times that of the distribution predicted by the target network.

    Attributes:
      target_view: the view of the target branch, `second` or `same`. Texts that are
        masked differently there are not distilled.
      positions: of a text, whose logits are held at a time, see `Captioning`.

    Scalars:
      distillation: share a of the target network's distribution in the labels.
    """

    scalars = {"weight": 1.0, "distillation": 0.4}
    limits = {"distillation": (0.0, 1.0), "positions": (0, math.inf)}
    target_view: str = "same"
    positions: int = 0

    def targets(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> Logits:
        """Returns [B, L, V] logits of the masked ids, or their factors."""
        return self._predict(towers, view, features, train)

    def means(self, inputs: Inputs) -> tuple[Mean, dict[str, Mean]]:
        """Returns the loss and the accuracy at masked positions, see `AveragesPairs`.

        Raises:
          ClipinError: the data has no masked text, or the text tower cannot predict it.
        """
        view = inputs.view
        logits = self._predict(inputs.towers, view, inputs.features, inputs.train)
        labels = view["masked_labels"]
        masked = labels >= 0
        share = self.scalar("distillation", inputs.hyper) * self._same_text(inputs)
        share = jnp.broadcast_to(share, labels.shape)
        losses, correct = map_positions(
            _score, [logits, inputs.targets], [labels, share], self.positions
        )
        accuracy = Mean.of(correct.astype(losses.dtype), masked)
        return Mean.of(losses, masked), {"accuracy": accuracy}

    def _same_text(self, inputs: Inputs) -> Array:
        """Returns [B, 1] bool: whether both branches have the same masked text."""
        view = inputs.view if self.target_view == "same" else inputs.other_view
        same = inputs.view["masked_text"] == view["masked_text"]
        return same.all(axis=-1, keepdims=True)

    def _predict(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> Logits:
        tower = require_method(towers.text, "predict_masked", self)
        if "masked_text" not in view or "masked_labels" not in view:
            raise ClipinError(
                f"{self.config_key} needs masked texts, which the data does not "
                "have: set data.mask_probability, for example to 0.15"
            )
        arguments = view["masked_text"], features["image"]["tokens"], train
        return read_logits(tower, "predict_masked", arguments, self.positions)


def _score(
    logits: Array, target: Array, labels: Array, share: Array
) -> tuple[Array, Array]:
    """Returns the loss, and whether the largest logit is that of the label.

    Args:
      logits: [..., V] of any float dtype.
      target: [..., V], logits of the target network.
      labels: [...] int; negative where no id is predicted.
      share: [...], of the label that is the target's distribution.
    """
    logits, target = (x.astype(at_least_float32(x.dtype)) for x in (logits, target))
    soft = jax.nn.softmax(jax.lax.stop_gradient(target))
    hard, share = jax.nn.one_hot(labels, logits.shape[-1]), share[..., None]
    losses = soft_cross_entropies(logits, share * soft + (1 - share) * hard)
    return losses, jnp.argmax(logits, axis=-1) == labels
