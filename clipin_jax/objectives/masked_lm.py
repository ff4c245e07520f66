"""Masked language modelling with the image (ALBEF).

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 7; reference: salesforce/ALBEF,
`models/model_pretrain.py`. Masking is BERT's and happens in the data pipeline.
"""

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.base import MaskedWordTower, Towers
from clipin_jax.models.layers import at_least_float32
from clipin_jax.objectives.base import Inputs, ObjectiveModule, require_method
from clipin_jax.objectives.losses import masked_mean, soft_cross_entropy
from clipin_jax.types import Array, Features, Metrics, View


class MaskedLM(ObjectiveModule):
    """Cross-entropy over masked positions, in part distilled from the target network.

    With the `distillation` share a, it is (1 - a) times the cross-entropy of the
    original id plus a times that of the distribution predicted by the target network.

    Attributes:
      target_view: the view of the target branch, see `UsesTarget`. Texts that are
        masked differently there are not distilled.
    """

    scalars = {"weight": 1.0, "distillation": 0.4}
    limits = {"distillation": (0.0, 1.0)}
    target_view: str = "same"

    def targets(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> Array:
        """Returns [B, L, V] logits of the masked ids."""
        return self._predict(towers, view, features, train)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy at masked positions.

        Raises:
          ClipinError: the data has no masked text, or the text tower cannot predict it.
        """
        view = inputs.view
        logits = self._predict(inputs.towers, view, inputs.features, inputs.train)
        labels = view["masked_labels"]
        masked = labels >= 0
        hard = jax.nn.one_hot(labels, logits.shape[-1])
        soft = jax.nn.softmax(jax.lax.stop_gradient(inputs.targets))
        share = self.scalar("distillation", inputs.hyper) * self._same_text(inputs)
        loss = soft_cross_entropy(logits, share * soft + (1 - share) * hard, masked)
        correct = (jnp.argmax(logits, axis=-1) == labels).astype(loss.dtype)
        return loss, {"accuracy": masked_mean(correct, masked)}

    def _same_text(self, inputs: Inputs) -> Array:
        """Returns [B, 1, 1] bool: whether both branches have the same masked text."""
        view = inputs.view if self.target_view == "same" else inputs.other_view
        same = inputs.view["masked_text"] == view["masked_text"]
        return same.all(axis=-1)[:, None, None]

    def _predict(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> Array:
        tower: MaskedWordTower = require_method(towers.text, "predict_masked", self)
        if "masked_text" not in view or "masked_labels" not in view:
            raise ClipinError(
                f"{self.config_key} needs masked texts, which the data does not "
                "have: set data.mask_probability, for example to 0.15"
            )
        tokens = features["image"]["tokens"]
        logits = tower.predict_masked(view["masked_text"], tokens, train)
        return logits.astype(at_least_float32(logits.dtype))
