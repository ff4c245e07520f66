"""BERT as a text encoder (arXiv 1810.04805)."""

from clipin_jax.models.bert_layers import BertTower
from clipin_jax.types import Array, TowerFeatures


class Bert(BertTower):
    """Embeddings and `depth` layers; `pooled` is the first position.

    The text tower of a CLIP that starts from a published BERT or RoBERTa, for example
    a Chinese one (arXiv 2211.01335). It has no pooler: `model.projection` has one.
    """

    depth: int = 12

    def setup(self) -> None:
        super().setup()
        self.layers = self.stack(self.depth)

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: whether dropout is on.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D], the first of them.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        return self.encode_text(self.layers, text, train)
