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
    find_duplicates,
    read_ids,
)
from clipin_jax.types import Array, Metrics


def draw_hard_negatives(
    key: Array,
    similarity: Array,
    *,
    floor: float = 0.0,
    duplicates: Array | None = None,
) -> Array:
    """Draws a negative for every row; similar ones are more likely.

    Args:
      key: of the random generator.
      similarity: [..., N, N] float; pairs on the diagonal.
      floor: see `negative_log_weights`.
      duplicates: see `negatives`.

    Returns:
      [..., N] int32, the column drawn for each row. It is never the row itself or a
      duplicate; in a row without negatives it is any column.
    """
    log_weights = negative_log_weights(similarity, floor, duplicates)
    return jax.random.categorical(key, log_weights).astype(jnp.int32)


def negative_log_weights(
    similarity: Array, floor: float = 0.0, duplicates: Array | None = None
) -> Array:
    """Returns the log of softmax(similarity) + floor, for negatives only.

    It is computed in logarithms, so that a row with a probability of 1 for its pair
    still has negatives.

    Args:
      similarity: [..., N, N] float.
      floor: added to every weight; 0 in ALBEF, 1e-4 in BLIP.
      duplicates: see `negatives`.

    Returns:
      [..., N, N] float, -inf for pairs that are not drawn.
    """
    logits = jax.nn.log_softmax(similarity)
    logits = jnp.logaddexp(logits, math.log(floor) if floor else -jnp.inf)
    return jnp.where(negatives(similarity.shape[-1], duplicates), logits, -jnp.inf)


def negatives(size: int, duplicates: Array | None = None) -> Array:
    """Returns which pairs of a group are negatives of each other: [..., N, N] bool.

    Args:
      size: N.
      duplicates: [..., N, N] bool, pairs that are no negatives; None for none.
    """
    others = ~jnp.eye(size, dtype=bool)
    return others if duplicates is None else others & ~duplicates


class Matching(ObjectiveModule):
    """Cross-entropy of true pairs, and of a hard negative per text and per image.

    Negatives are drawn by the cosine of online embeddings, divided by the scalar
    `temperature`. The reference uses the learned temperature of its contrastive
    objective and the momentum keys of this batch. With online embeddings and a given
    temperature, matching works with any contrastive objective.

    Attributes:
      group: size of the groups of pairs within which negatives are drawn, like the
        batch per GPU of the reference; 0 for the global batch, where negatives are
        harder with more devices, and all tokens go to all of them. With groups that
        divide the batch of a device, no token leaves its device.
      floor: added to each probability before drawing; 0 in ALBEF, 1e-4 in BLIP.
      duplicates: whether pairs with an equal image or caption are drawn as negatives:
        `ignore`, like all others; `mask`, never. A row without any other pair in its
        group then has no negative.

    Scalars:
      temperature: divides the cosines by which negatives are drawn.
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
        self._check_batch(len(text))
        duplicates = self._find_duplicates(inputs)
        for_text, for_image = self._draw_negatives(inputs, duplicates)
        tokens, x = features["text"]["tokens"], features["image"]["tokens"]
        # A pair, its text with a negative image, its image with a negative text. They
        # follow each other, so that all rows of a pair are on one device.
        texts = _interleave(text, text, _pick(text, for_image))
        text_tokens = _interleave(tokens, tokens, _pick(tokens, for_image))
        image_tokens = _interleave(x, _pick(x, for_text), x)
        logits = self._logits(
            inputs.towers, texts, text_tokens, image_tokens, train=inputs.train
        )
        labels = _interleave(
            *(jnp.full(len(text), i == 0, jnp.int32) for i in range(3))
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = jnp.argmax(logits, axis=-1) == labels
        counted = self._has_partner(duplicates)
        metrics = {"accuracy": jnp.mean(correct, where=counted)}
        if duplicates is not None:
            metrics["duplicates"] = jnp.mean(jnp.any(duplicates, axis=-1))
        return losses.mean(where=counted), metrics

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

    def _find_duplicates(self, inputs: Inputs) -> Array | None:
        """Returns which pairs of a group are duplicates, [G, N, N] bool, or None."""
        ids = read_ids(self, self.duplicates, inputs.view)
        if not ids:
            return None
        groups = {name: self._grouped(values) for name, values in ids.items()}
        return jax.vmap(find_duplicates)(groups)

    def _has_partner(self, duplicates: Array | None) -> Array | None:
        """Returns which rows are pairs or have a negative, [3B] bool; None for all."""
        if duplicates is None:
            return None
        allowed = negatives(duplicates.shape[-1], duplicates)
        has_negative = jnp.any(allowed, axis=-1).reshape(-1)
        return _interleave(jnp.ones_like(has_negative), has_negative, has_negative)

    def _draw_negatives(
        self, inputs: Inputs, duplicates: Array | None
    ) -> tuple[Array, Array]:
        """Returns for each text an image, and for each image a text.

        Both are [G, N] int32, places within the group.
        """
        image, text = (
            self._grouped(inputs.features[m]["embedding"]) for m in ("image", "text")
        )
        temperature = self.scalar("temperature", inputs.hyper)
        similarity = jnp.einsum("gte,gie->gti", text, image)
        similarity = jax.lax.stop_gradient(similarity) / temperature
        options: dict[str, Any] = dict(floor=self.floor, duplicates=duplicates)
        keys = jax.random.split(self.make_rng("sample"))
        drawn = (
            draw_hard_negatives(keys[0], similarity, **options),
            draw_hard_negatives(keys[1], similarity.mT, **options),
        )
        return drawn[0].reshape(text.shape[:2]), drawn[1].reshape(text.shape[:2])

    def _grouped(self, rows: Array) -> Array:
        """Returns [B, ...] as [G, N, ...]."""
        return rows.reshape(-1, self.group or len(rows), *rows.shape[1:])

    def _check_batch(self, size: int) -> None:
        group = self.group or size
        if group < 2 or size % group:
            raise ClipinError(
                f"{self.config_key} draws negatives in groups of {group} out of "
                f"{size} pairs: it needs groups of at least 2 that divide the batch "
                f"(batch_size, {self.config_key}.group)"
            )


def _pick(rows: Array, places: Array) -> Array:
    """Returns a row of the same group for each row.

    Args:
      rows: [B, ...].
      places: [G, N] int32, within groups of N rows.
    """
    groups = rows.reshape(*places.shape, *rows.shape[1:])
    return jax.vmap(lambda group, place: group[place])(groups, places).reshape(
        rows.shape
    )


def _interleave(*parts: Array) -> Array:
    """Returns the rows of K arrays [B, ...] one after the other, [K B, ...]."""
    stacked = jnp.stack(parts, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
