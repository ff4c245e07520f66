"""BERT in two halves: the lower layers encode text, the upper attend to the image too.

Source: ALBEF, arXiv 2107.07651, section 3.1; salesforce/ALBEF, `models/xbert.py`.
"""

from typing import ClassVar

from clipin_jax.models.bert_layers import BertTower, WordHead, attention_mask
from clipin_jax.models.layers import LogitFactors
from clipin_jax.models.transformer import blocks_of
from clipin_jax.types import Array, TowerFeatures


class SplitBert(BertTower):
    """`depth` layers of text alone, then `fusion_depth` layers with cross-attention.

    Attributes:
      depth: layers that read the text alone.
      fusion_depth: layers that also attend to the image.
    """

    # The layer that explanations show, of those with cross-attention: the reference's.
    explained_layer: ClassVar[int] = 2
    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (
        r"^embeddings/",
        blocks_of("text_layers"),
        blocks_of("fusion_layers"),
    )
    depth: int = 6
    fusion_depth: int = 6

    def setup(self) -> None:
        super().setup()
        self.text_layers = self.stack(self.depth)
        self.fusion_layers = self.stack(self.fusion_depth)
        self.head = WordHead(self.options)

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids with the text layers alone.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: whether dropout is on.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D], the first of them.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        return self.encode_text(self.text_layers, text, train)

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Runs the layers with attention to the image over encoded text.

        Args:
          text: [B, L] int32, the ids; only their padding is read.
          text_tokens: [B, L, D], the `tokens` of `__call__`.
          image_tokens: [B, N, any width].
          train: whether dropout is on.

        Returns:
          [B, L, D].
        """
        mask = attention_mask(text, self.pad_id)
        return self.fusion_layers(text_tokens, mask, image_tokens, train)

    def predict_masked(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Predicts masked ids from the other ids and the image.

        Args:
          text: [B, L] int32, some ids replaced by the mask.
          image_tokens: [B, N, any width].
          train: whether dropout is on.

        Returns:
          [B, L, V] logits of every position.
        """
        return self.predict_masked_factors(text, image_tokens, train).logits()

    def predict_masked_factors(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> LogitFactors:
        """Returns the factors of what `predict_masked` returns."""
        tokens = self(text, train)["tokens"]
        return self.head(self.fuse(text, tokens, image_tokens, train), self.embeddings)
