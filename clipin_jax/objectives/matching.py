"""Does this text belong to this image? A classifier on the fused text.

Source: ALBEF, arXiv 2107.07651, section 3.2 (image-text matching); references:
salesforce/ALBEF, `models/model_pretrain.py`; salesforce/BLIP,
`models/blip_pretrain.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Linear, at_least_float32
from clipin_jax.objectives.base import Inputs, Objective, require_method
from clipin_jax.types import Array, Metrics


def draw_hard_negatives(
    key: Array, similarity: Array, group: int = 0, floor: float = 0.0
) -> Array:
    """Draws a wrong partner for every row, the more likely the more similar.

    Args:
      key: of the random generator.
      similarity: [B, B] float; pairs on the diagonal.
      group: see `negative_log_weights`.
      floor: see `negative_log_weights`.

    Returns:
      [B] int32, the column drawn for each row; never its own.
    """
    log_weights = negative_log_weights(similarity, group, floor)
    return jax.random.categorical(key, log_weights).astype(jnp.int32)


def negative_log_weights(
    similarity: Array, group: int = 0, floor: float = 0.0
) -> Array:
    """The log of softmax(similarity) + floor, without the diagonal.

    In logarithms, so that a row which is sure of its own pair still has negatives.

    Args:
      similarity: [B, B] float.
      group: negatives stand in the same group of so many rows; 0 for the whole batch.
      floor: added to every weight; 0 in ALBEF, 1e-4 in BLIP.

    Returns:
      [B, B] float, -inf where nothing is drawn.
    """
    size = similarity.shape[0]
    member = jnp.arange(size) // (group or size)
    together = member[:, None] == member
    logits = jax.nn.log_softmax(jnp.where(together, similarity, -jnp.inf))
    logits = jnp.logaddexp(logits, math.log(floor) if floor else -jnp.inf)
    return jnp.where(together & ~jnp.eye(size, dtype=bool), logits, -jnp.inf)


class Matching(Objective):
    """Cross-entropy of true pairs and of as hard a wrong one per text and per image.

    How hard a pair is says the cosine of its online embeddings over the scalar
    `temperature`, a number of the config. The reference takes the learned temperature
    of its contrastive objective and the momentum keys of this batch; with the plain
    ones matching also runs beside any other contrastive objective.

    Attributes:
      group: pairs among which negatives are drawn: the reference's batch per GPU; 0
        for the global batch, where they get harder with more devices.
      floor: added to each probability before drawing; 0 in ALBEF, 1e-4 in BLIP.
    """

    scalars = ("weight", "temperature")
    group: int = 0
    floor: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.head = Linear(2, **dtypes)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss over 3B pairs, and how many of them are judged rightly.

        Raises:
          ClipinError: the text tower cannot fuse, or there is no negative.
        """
        text, features = jnp.asarray(inputs.view["text"]), inputs.features
        self._check_batch(text.shape[0])
        for_text, for_image = self._negatives(inputs)
        # In this order: pairs, texts with a wrong image, images with a wrong text.
        texts, text_tokens = (
            jnp.concatenate([x, x, x[for_image]])
            for x in (text, features["text"]["tokens"])
        )
        x = features["image"]["tokens"]
        image_tokens = jnp.concatenate([x, x[for_text], x])
        logits = self._logits(
            inputs.towers, texts, text_tokens, image_tokens, inputs.train
        )
        labels = (jnp.arange(texts.shape[0]) < text.shape[0]).astype(jnp.int32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
        return loss, {"accuracy": accuracy}

    def scores(
        self, towers: Any, text: Array, text_tokens: Array, image_tokens: Array
    ) -> Array:
        """How well texts and images match, for ranking again; evaluation mode.

        Args:
          towers: the bound `TwoTowers`.
          text: [B, L] int32.
          text_tokens: [B, L, D] of the text tower.
          image_tokens: [B, N, D] of the image tower.

        Returns:
          [B] in at least float32, the logit of a match.
        """
        return self._logits(towers, text, text_tokens, image_tokens, False)[:, 1]

    def _logits(
        self, towers: Any, text: Array, text_tokens: Array, image_tokens: Array,
        train: bool,
    ) -> Array:  # fmt: skip
        """[B, 2]: no match, match."""
        require_method(towers.text, "fuse", self)
        fused = towers.text.fuse(text, text_tokens, image_tokens, train)
        logits = self.head(fused[:, 0])
        return logits.astype(at_least_float32(logits.dtype))

    def _negatives(self, inputs: Inputs) -> tuple[Array, Array]:
        """For each text the index of a wrong image, for each image that of a text."""
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        temperature = self.scalar("temperature", inputs.hyper)
        similarity = jax.lax.stop_gradient(text @ image.T) / temperature
        for_text, for_image = jax.random.split(self.make_rng("sample"))
        return (
            draw_hard_negatives(for_text, similarity, self.group, self.floor),
            draw_hard_negatives(for_image, similarity.T, self.group, self.floor),
        )

    def _check_batch(self, size: int) -> None:
        group = self.group or size
        if group < 2 or size % group:
            raise ClipinError(
                f"{self.config_key} draws negatives in groups of {group} out of "
                f"{size} pairs: it needs groups of at least 2 that divide the batch "
                f"(batch_size, {self.config_key}.group)"
            )
