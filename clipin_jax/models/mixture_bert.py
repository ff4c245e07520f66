"""One BERT in three roles: text encoder, encoder with the image, decoder.

Source: BLIP, arXiv 2201.12086, section 3.1 (mixture of encoder-decoder);
salesforce/BLIP, `models/med.py`, `models/blip_pretrain.py`.
"""

from typing import ClassVar

import jax.numpy as jnp

from clipin_jax.models.bert_layers import BertTower, WordHead, attention_mask
from clipin_jax.models.layers import LogitFactors
from clipin_jax.types import Array, TowerFeatures


class MixtureBert(BertTower):
    """`depth` layers with cross-attention, which the encoding of text alone skips.

    The decoder has its own self-attention (with its norm) and a word head; tables,
    cross-attention and perceptrons are shared. The id at position 0 marks the role.

    Attributes:
      depth: number of layers.
      encode_id: the id at position 0 of text that is fused with an image; a negative
        id counts from the end of the vocabulary.
      decode_id: the same for text that is decoded.
    """

    # The layer that explanations show, of those with cross-attention: LAVIS's.
    explained_layer: ClassVar[int] = 6
    depth: int = 12
    vocab_size: int = 30524
    encode_id: int = -1
    decode_id: int = -2

    def setup(self) -> None:
        super().setup()
        self.layers = self.stack(self.depth)
        self.head = WordHead(self.options)

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids without an image.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: whether dropout is on.

        Returns:
          `tokens`: [B, L, D]; `pooled`: [B, D], the first of them.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        return self.encode_text(self.layers, text, train)

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Encodes token ids with attention to the image.

        Args:
          text: [B, L] int32.
          text_tokens: not used: the text is encoded from its ids.
          image_tokens: [B, N, any width].
          train: whether dropout is on.

        Returns:
          [B, L, D].
        """
        text = self._with_mark(self.encode_id, text)
        x = self.embeddings(text, train)
        return self.layers(x, attention_mask(text, self.pad_id), image_tokens, train)

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Predicts each next id from the ids so far and the image.

        Args:
          text: [B, L] int32.
          text_tokens: not used: the text is encoded from its ids.
          image_tokens: [B, N, any width].
          train: whether dropout is on.

        Returns:
          [B, L, V] logits; position l predicts id l + 1.
        """
        return self.decode_factors(text, text_tokens, image_tokens, train).logits()

    def decode_factors(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> LogitFactors:
        """Returns the factors of what `decode` returns, for the same arguments."""
        text = self._with_mark(self.decode_id, text)
        x = self.embeddings(text, train)
        mask = attention_mask(text, self.pad_id, causal=True)
        x = self.layers(x, mask, image_tokens, train, attention="decoder_attention")
        return self.head(x, self.embeddings)

    def _with_mark(self, mark: int, text: Array) -> Array:
        return jnp.asarray(text).at[:, 0].set(mark % self.vocab_size)
