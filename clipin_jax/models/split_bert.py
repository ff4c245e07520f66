"""BERT cut in two: its lower layers read the text, its upper ones look at the image.

Source: ALBEF, arXiv 2107.07651, section 3.1; salesforce/ALBEF, `models/xbert.py`.
"""

from typing import ClassVar

from clipin_jax.models.bert_layers import BertTower, WordHead, visible
from clipin_jax.models.transformer import blocks_of
from clipin_jax.types import Array


class SplitBert(BertTower):
    """`depth` layers of text alone, then `fusion_depth` layers with cross-attention."""

    explained_layer: ClassVar[int] = 2  # of those that see the image; the reference's
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

    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids with the text layers alone.

        Args:
          text: [B, L] int32, L at most `context_length`.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D], the first of them.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        x = self.embeddings(text, train)
        tokens = self.text_layers(x, visible(text, self.pad_id), train=train)
        return {"tokens": tokens, "pooled": tokens[:, 0]}

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Lets encoded text look at the image.

        Args:
          text: [B, L] int32, the ids; only their padding is read.
          text_tokens: [B, L, D] from `__call__`.
          image_tokens: [B, N, any width].

        Returns:
          [B, L, D].
        """
        mask = visible(text, self.pad_id)
        return self.fusion_layers(text_tokens, mask, image_tokens, train)

    def predict_masked(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Says which words were masked, from the rest and the image.

        Args:
          text: [B, L] int32, some of them masked.
          image_tokens: [B, N, any width].

        Returns:
          [B, L, V] logits of every position.
        """
        tokens = self(text, train)["tokens"]
        return self.head(self.fuse(text, tokens, image_tokens, train), self.embeddings)
