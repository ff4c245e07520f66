"""One BERT in three roles: text encoder, encoder that sees the image, decoder.

Source: BLIP, arXiv 2201.12086, section 3.1 (mixture of encoder-decoder);
salesforce/BLIP, `models/med.py`, `models/blip_pretrain.py`.
"""

from typing import ClassVar

import jax.numpy as jnp

from clipin_jax.models.bert_layers import BertTower, WordHead, visible
from clipin_jax.types import Array


class MixtureBert(BertTower):
    """`depth` layers that all can look at an image; reading text alone skips that.

    The decoder has self-attention (with its norm) and a word head of its own; tables,
    cross-attention and perceptrons are shared. Position 0 tells the roles apart.

    Attributes:
      encode_id: the id at position 0 of text that is fused with an image; a negative
        one counts from the end of the vocabulary.
      decode_id: the same for text that is said.
    """

    explained_layer: ClassVar[int] = 6  # of those that see the image; LAVIS's
    depth: int = 12
    vocab_size: int = 30524
    encode_id: int = -1
    decode_id: int = -2

    def setup(self) -> None:
        super().setup()
        self.layers = self.stack(self.depth)
        self.head = WordHead(self.options)

    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids without an image.

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

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Encodes text that looks at the image, from the ids again.

        Args:
          text: [B, L] int32.
          text_tokens: not read.
          image_tokens: [B, N, any width].

        Returns:
          [B, L, D].
        """
        text = self._begin_with(self.encode_id, text)
        x = self.embeddings(text, train)
        return self.layers(x, visible(text, self.pad_id), image_tokens, train)

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Says each next id from those before it and the image.

        Args:
          text: [B, L] int32.
          text_tokens: not read.
          image_tokens: [B, N, any width].

        Returns:
          [B, L, V] logits; position l predicts id l + 1.
        """
        text = self._begin_with(self.decode_id, text)
        x = self.embeddings(text, train)
        mask = visible(text, self.pad_id, causal=True)
        x = self.layers(x, mask, image_tokens, train, attention="decoder_attention")
        return self.head(x, self.embeddings)

    def _begin_with(self, mark: int, text: Array) -> Array:
        return jnp.asarray(text).at[:, 0].set(mark % self.vocab_size)
