"""Masked words from the other words and the image.

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 7; reference: salesforce/ALBEF,
`models/model_pretrain.py`. Masking is BERT's and happens in the data pipeline.
"""

from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import at_least_float32
from clipin_jax.objectives.base import Inputs, Objective, require_method
from clipin_jax.objectives.losses import masked_mean, soft_cross_entropy
from clipin_jax.types import Array, Features, Metrics, View


class MaskedLM(Objective):
    """Cross-entropy over masked positions, in part against the target's opinion.

    With a the `distillation` share: (1 - a) cross-entropy of the word that stood there
    plus a cross-entropy of the distribution that the target network predicts.

    Attributes:
      target_view: which view the target branch sees, see `Learner`. A text that is
        masked otherwise there is learned without the target's opinion.
    """

    scalars = {"weight": 1.0, "distillation": 0.4}
    target_view: str = "same"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def targets(
        self, towers: Any, view: View, features: Features, train: bool
    ) -> Array:
        """[B, L, V] logits of the masked words."""
        return self._predict(towers, view, features, train)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and how many masked words are guessed.

        Raises:
          ClipinError: the data masks nothing, or the text tower cannot predict words.
        """
        view = inputs.view
        logits = self._predict(inputs.towers, view, inputs.features, inputs.train)
        masked = view["masked_labels"] >= 0
        hard = jax.nn.one_hot(view["masked_labels"], logits.shape[-1])
        soft = jax.nn.softmax(jax.lax.stop_gradient(inputs.targets))
        share = self.scalar("distillation", inputs.hyper) * self._same_text(inputs)
        loss = soft_cross_entropy(logits, share * soft + (1 - share) * hard, masked)
        right = (jnp.argmax(logits, axis=-1) == view["masked_labels"]).astype(
            loss.dtype
        )
        return loss, {"accuracy": masked_mean(right, masked)}

    def _same_text(self, inputs: Inputs) -> Array:
        """[B, 1, 1] bool: whether the target network has seen the same masked text."""
        seen = inputs.view if self.target_view == "same" else inputs.other_view
        same = inputs.view["masked_text"] == seen["masked_text"]
        return same.all(axis=-1)[:, None, None]

    def _predict(
        self, towers: Any, view: View, features: Features, train: bool
    ) -> Array:
        require_method(towers.text, "predict_masked", self)
        if "masked_text" not in view or "masked_labels" not in view:
            raise ClipinError(
                f"{self.config_key} needs masked texts, which the data does not "
                "have: set data.mask_probability, for example to 0.15"
            )
        tokens = features["image"]["tokens"]
        logits = towers.text.predict_masked(view["masked_text"], tokens, train)
        return logits.astype(at_least_float32(logits.dtype))
