"""Image-text matching: a binary classifier of fused text tokens.

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
from clipin_jax.models.base import FusingTower, Towers
from clipin_jax.models.layers import Linear, at_least_float32
from clipin_jax.objectives.base import (
    TEMPERATURES,
    Inputs,
    ObjectiveModule,
    require_method,
)
from clipin_jax.objectives.duplicates import (
    IGNORE,
    MASK,
    check_choice,
    duplicate_metrics,
    find_duplicates,
    read_ids,
)
from clipin_jax.types import Array, Metrics


def draw_hard_negatives(
    key: Array,
    similarity: Array,
    *,
    group: int = 0,
    floor: float = 0.0,
    duplicates: Array | None = None,
) -> Array:
    """Draws a negative for every row; similar ones are more likely.

    Args:
      key: of the random generator.
      similarity: [B, B] float; pairs on the diagonal.
      group: see `negatives`.
      floor: see `negative_log_weights`.
      duplicates: see `negatives`.

    Returns:
      [B] int32, the column drawn for each row. It is never the row itself or a
      duplicate; in a row without negatives it is any column.
    """
    log_weights = negative_log_weights(similarity, group, floor, duplicates)
    return jax.random.categorical(key, log_weights).astype(jnp.int32)


def negative_log_weights(
    similarity: Array,
    group: int = 0,
    floor: float = 0.0,
    duplicates: Array | None = None,
) -> Array:
    """Returns the log of softmax(similarity) + floor, for negatives only.

    It is computed in logarithms, so that a row with a probability of 1 for its pair
    still has negatives.

    Args:
      similarity: [B, B] float.
      group: see `negatives`.
      floor: added to every weight; 0 in ALBEF, 1e-4 in BLIP.
      duplicates: see `negatives`.

    Returns:
      [B, B] float, -inf for pairs that are not drawn.
    """
    same_group = _same_group(similarity.shape[0], group)
    logits = jax.nn.log_softmax(jnp.where(same_group, similarity, -jnp.inf))
    logits = jnp.logaddexp(logits, math.log(floor) if floor else -jnp.inf)
    allowed = negatives(similarity.shape[0], group, duplicates)
    return jnp.where(allowed, logits, -jnp.inf)


def negatives(size: int, group: int = 0, duplicates: Array | None = None) -> Array:
    """Returns which pairs are negatives of each other: [size, size] bool.

    Args:
      size: B.
      group: size of the groups of rows within which negatives are drawn; 0 for the
        whole batch.
      duplicates: [B, B] bool, pairs that are no negatives; None for none.
    """
    allowed = _same_group(size, group) & ~jnp.eye(size, dtype=bool)
    return allowed if duplicates is None else allowed & ~duplicates


def _same_group(size: int, group: int) -> Array:
    """Returns which rows are in the same group: [size, size] bool."""
    index = jnp.arange(size) // (group or size)
    return index[:, None] == index


class Matching(ObjectiveModule):
    """Cross-entropy of true pairs, and of a hard negative per text and per image.

    Negatives are drawn by the cosine of online embeddings, divided by the scalar
    `temperature`. The reference uses the learned temperature of its contrastive
    objective and the momentum keys of this batch. With online embeddings and a given
    temperature, matching works with any contrastive objective.

    Attributes:
      group: size of the groups of pairs within which negatives are drawn, like the
        batch per GPU of the reference; 0 for the global batch, where negatives are
        harder with more devices.
      floor: added to each probability before drawing; 0 in ALBEF, 1e-4 in BLIP.
      duplicates: whether pairs with an equal image or caption are drawn as negatives:
        `ignore`, like all others; `mask`, never. A row without any other pair in its
        group then has no negative.
    """

    scalars = {"weight": 1.0, "temperature": 0.07}
    limits = {"temperature": TEMPERATURES}
    group: int = 0
    floor: float = 0.0
    duplicates: str = "ignore"

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates, (IGNORE, MASK))
        self.head = Linear(2, **self.dtypes)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss over 3B pairs, and their accuracy.

        Raises:
          ClipinError: the text tower cannot fuse, the batch has no negatives, or the
            data has no ids to find duplicates by.
        """
        text, features = jnp.asarray(inputs.view["text"]), inputs.features
        self._check_batch(text.shape[0])
        duplicates = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        for_text, for_image = self._draw_negatives(inputs, duplicates)
        # The order is: pairs, texts with a negative image, images with a negative text.
        texts, text_tokens = (
            jnp.concatenate([x, x, x[for_image]])
            for x in (text, features["text"]["tokens"])
        )
        x = features["image"]["tokens"]
        image_tokens = jnp.concatenate([x, x[for_text], x])
        logits = self._logits(
            inputs.towers, texts, text_tokens, image_tokens, train=inputs.train
        )
        labels = (jnp.arange(texts.shape[0]) < text.shape[0]).astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = jnp.argmax(logits, axis=-1) == labels
        counted = self._has_partner(duplicates)
        metrics = {"accuracy": jnp.mean(correct, where=counted)}
        return losses.mean(where=counted), metrics | duplicate_metrics(duplicates)

    def scores(
        self, towers: Towers, text: Array, text_tokens: Array, image_tokens: Array
    ) -> Array:
        """Returns the logits of a match without training, [B] in at least float32.

        Args:
          towers: with online parameters.
          text: [B, L] int32.
          text_tokens: [B, L, D] of the text tower.
          image_tokens: [B, N, D] of the image tower.
        """
        logits = self._logits(towers, text, text_tokens, image_tokens, train=False)
        return logits[:, 1]

    def _logits(
        self, towers: Towers, text: Array, text_tokens: Array, image_tokens: Array,
        *, train: bool,
    ) -> Array:  # fmt: skip
        """Returns [B, 2]: no match, match."""
        tower: FusingTower = require_method(towers.text, "fuse", self)
        fused = tower.fuse(text, text_tokens, image_tokens, train)
        logits = self.head(fused[:, 0])
        return logits.astype(at_least_float32(logits.dtype))

    def _has_partner(self, duplicates: Array | None) -> Array | None:
        """Returns which rows are pairs or have a negative, [3B] bool; None for all."""
        if duplicates is None:
            return None
        size = duplicates.shape[0]
        has_negative = jnp.any(negatives(size, self.group, duplicates), axis=1)
        return jnp.concatenate([jnp.ones(size, bool), has_negative, has_negative])

    def _draw_negatives(
        self, inputs: Inputs, duplicates: Array | None
    ) -> tuple[Array, Array]:
        """Returns the index of an image per text, and of a text per image, [B] each."""
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        temperature = self.scalar("temperature", inputs.hyper)
        similarity = jax.lax.stop_gradient(text @ image.T) / temperature
        options: dict[str, Any] = dict(
            group=self.group, floor=self.floor, duplicates=duplicates
        )
        for_text, for_image = jax.random.split(self.make_rng("sample"))
        return (
            draw_hard_negatives(for_text, similarity, **options),
            draw_hard_negatives(for_image, similarity.T, **options),
        )

    def _check_batch(self, size: int) -> None:
        group = self.group or size
        if group < 2 or size % group:
            raise ClipinError(
                f"{self.config_key} draws negatives in groups of {group} out of "
                f"{size} pairs: it needs groups of at least 2 that divide the batch "
                f"(batch_size, {self.config_key}.group)"
            )
