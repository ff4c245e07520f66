"""BERT as a text encoder (arXiv 1810.04805)."""

import jax.numpy as jnp

from clipin_jax.models.bert_layers import BertTower
from clipin_jax.models.layers import check_option
from clipin_jax.types import Array, TowerFeatures

POOLS = ("first", "mean")


class Bert(BertTower):
    """Embeddings and `depth` layers.

    The text tower of a CLIP that starts from a published BERT or RoBERTa, for example
    a Chinese one (arXiv 2211.01335). It has no pooler: `model.projection` has one.

    Attributes:
      depth: number of layers.
      pool: `first` (position) or `mean` (of all positions but padding, as in
        sentence-transformers, arXiv 1908.10084).
    """

    depth: int = 12
    pool: str = "first"

    def setup(self) -> None:
        super().setup()
        self.layers = self.stack(self.depth)

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: whether dropout is on.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D].

        Raises:
          ClipinError: the text is longer than the position table, or an unknown pool.
        """
        check_option("model.text.pool", self.pool, POOLS)
        features = self.encode_text(self.layers, text, train)
        if self.pool == "mean":
            features["pooled"] = _mean(features["tokens"], text != self.pad_id)
        return features


def _mean(tokens: Array, counted: Array) -> Array:
    """Returns the mean over positions, [B, D]; tokens [B, L, D]; counted [B, L]."""
    weights = counted.astype(tokens.dtype)[..., None]
    return jnp.sum(tokens * weights, axis=1) / jnp.maximum(weights.sum(axis=1), 1)
