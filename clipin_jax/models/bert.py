"""BERT as a text encoder (arXiv 1810.04805)."""

from clipin_jax.models.bert_layers import BertTower, visible
from clipin_jax.types import Array


class Bert(BertTower):
    """Embeddings and `depth` layers; what is pooled is the first position.

    The text tower of a CLIP that starts from a published BERT or RoBERTa, for example
    a Chinese one (arXiv 2211.01335). It has no pooler: that is `model.projection`'s.
    """

    depth: int = 12

    def setup(self) -> None:
        super().setup()
        self.layers = self.stack(self.depth)

    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D], the first of them.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        x = self.embeddings(text, train)
        tokens = self.layers(x, visible(text, self.pad_id), train=train)
        return {"tokens": tokens, "pooled": tokens[:, 0]}
