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
    group: int = 0,
    floor: float = 0.0,
    duplicates: Array | None = None,
) -> Array:
    """Draws a wrong partner for every row, the more likely the more similar.

    Args:
      key: of the random generator.
      similarity: [B, B] float; pairs on the diagonal.
      group: see `negatives`.
      floor: see `negative_log_weights`.
      duplicates: see `negatives`.

    Returns:
      [B] int32, the column drawn for each row; never its own nor that of a duplicate,
      but any one where nothing is left.
    """
    log_weights = negative_log_weights(similarity, group, floor, duplicates)
    return jax.random.categorical(key, log_weights).astype(jnp.int32)


def negative_log_weights(
    similarity: Array,
    group: int = 0,
    floor: float = 0.0,
    duplicates: Array | None = None,
) -> Array:
    """The log of softmax(similarity) + floor, of wrong partners alone.

    In logarithms, so that a row which is sure of its own pair still has negatives.

    Args:
      similarity: [B, B] float.
      group: see `negatives`.
      floor: added to every weight; 0 in ALBEF, 1e-4 in BLIP.
      duplicates: see `negatives`.

    Returns:
      [B, B] float, -inf where nothing is drawn.
    """
    together = _together(similarity.shape[0], group)
    logits = jax.nn.log_softmax(jnp.where(together, similarity, -jnp.inf))
    logits = jnp.logaddexp(logits, math.log(floor) if floor else -jnp.inf)
    wrong = negatives(similarity.shape[0], group, duplicates)
    return jnp.where(wrong, logits, -jnp.inf)


def negatives(size: int, group: int = 0, duplicates: Array | None = None) -> Array:
    """Which pairs are wrong partners to each other: [size, size] bool.

    Args:
      size: B.
      group: negatives stand in the same group of so many rows; 0 for the whole batch.
      duplicates: [B, B] bool, pairs that are no negatives; None for none.
    """
    wrong = _together(size, group) & ~jnp.eye(size, dtype=bool)
    return wrong if duplicates is None else wrong & ~duplicates


def _together(size: int, group: int) -> Array:
    member = jnp.arange(size) // (group or size)
    return member[:, None] == member


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
      duplicates: whether pairs with the same picture or caption are drawn as wrong
        ones: `ignore`, like all others; `mask`, never: a row without any other pair in
        its group is compared with no wrong one.
    """

    scalars = {"weight": 1.0, "temperature": 0.07}
    group: int = 0
    floor: float = 0.0
    duplicates: str = "ignore"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates, (IGNORE, MASK))
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.head = Linear(2, **dtypes)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss over 3B pairs, and how many of them are judged rightly.

        Raises:
          ClipinError: the text tower cannot fuse, there is no negative, or the data
            does not say what is a duplicate.
        """
        text, features = jnp.asarray(inputs.view["text"]), inputs.features
        self._check_batch(text.shape[0])
        same = find_duplicates(read_ids(self, self.duplicates, inputs.view))
        for_text, for_image = self._negatives(inputs, same)
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
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        right, counted = jnp.argmax(logits, axis=-1) == labels, self._counted(same)
        metrics = {"accuracy": jnp.mean(right, where=counted)}
        return losses.mean(where=counted), metrics | duplicate_metrics(same)

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

    def _counted(self, duplicates: Array | None) -> Array | None:
        """[3B] bool, which of all pairs were found; None for every one."""
        if duplicates is None:
            return None
        size = duplicates.shape[0]
        found = jnp.any(negatives(size, self.group, duplicates), axis=1)
        return jnp.concatenate([jnp.ones(size, bool), found, found])

    def _negatives(
        self, inputs: Inputs, duplicates: Array | None
    ) -> tuple[Array, Array]:
        """For each text the index of a wrong image, for each image that of a text."""
        image = inputs.features["image"]["embedding"]
        text = inputs.features["text"]["embedding"]
        temperature = self.scalar("temperature", inputs.hyper)
        similarity = jax.lax.stop_gradient(text @ image.T) / temperature
        options = self.group, self.floor, duplicates
        for_text, for_image = jax.random.split(self.make_rng("sample"))
        return (
            draw_hard_negatives(for_text, similarity, *options),
            draw_hard_negatives(for_image, similarity.T, *options),
        )

    def _check_batch(self, size: int) -> None:
        group = self.group or size
        if group < 2 or size % group:
            raise ClipinError(
                f"{self.config_key} draws negatives in groups of {group} out of "
                f"{size} pairs: it needs groups of at least 2 that divide the batch "
                f"(batch_size, {self.config_key}.group)"
            )
