"""A decoder in two halves: the first encodes text, the second also looks at the image.

CoCa's text tower, arXiv 2205.01917, section 3.2; mlfoundations/open_clip,
`TextTransformer` with `embed_cls` and `MultimodalTransformer`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm, Linear, check_option, shard_batch
from clipin_jax.models.transformer import (
    CrossBlock,
    Transformer,
    blocks_of,
    clip_text_init,
)
from clipin_jax.types import Array

PADDING_MASKS = ("aligned", "shifted")


class SplitDecoder(nn.Module):
    """Causal blocks over the text and a class token, then blocks that look at images.

    Attributes:
      depth: layers of the half that sees text alone.
      decoder_depth: layers of the other half; in each a causal block over the text and
        a block that looks at the image.
      context_length: L; the position table has one more place, for the class token.
      activation: a key of `transformer.ACTIVATIONS`.
      pad_id: the id that fills up a row.
      padding_mask: what is hidden, beside all that is to come. `aligned`: padding.
        `shifted`: the place behind each padding, so that the class token sees the first
        padding and, where there is padding, not itself; open_clip's weights are
        trained so. Captions, and what predicts them, are the same either way.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (
        r"^\w*embed",
        blocks_of("transformer"),
        blocks_of("decoder"),
    )
    width: int
    depth: int
    num_heads: int
    decoder_depth: int
    context_length: int
    vocab_size: int
    mlp_ratio: float = 4
    activation: str = "gelu"
    norm_eps: float = 1e-5
    pad_id: int = 0
    padding_mask: str = "aligned"
    scan_layers: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        check_option("model.text.padding_mask", self.padding_mask, PADDING_MASKS)
        normal = nn.initializers.normal
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.token_embedding = nn.Embed(
            self.vocab_size, self.width, embedding_init=normal(0.02), **dtypes
        )
        self.class_embedding = self.param(
            "class_embedding", normal(0.01), (self.width,), self.param_dtype
        )
        shape = (self.context_length + 1, self.width)
        self.position_embedding = self.param(
            "position_embedding", normal(0.01), shape, self.param_dtype
        )
        shared = (self.num_heads, self.mlp_ratio, self.activation, True, self.norm_eps)
        compiled = (self.scan_layers, self.remat, self.dtype, self.param_dtype)
        self.transformer = Transformer(
            self.depth, *shared, clip_text_init(self.width, self.depth), *compiled
        )
        # Two blocks a layer: twice as many add to the residual.
        matrices = clip_text_init(self.width, 2 * self.decoder_depth)
        self.decoder = Transformer(
            self.decoder_depth, *shared, matrices, *compiled, block=CrossBlock
        )
        self.ln_final = LayerNorm(self.norm_eps, **dtypes)
        self.ln_decoder = LayerNorm(self.norm_eps, **dtypes)
        self.vocabulary = Linear(
            self.vocab_size,
            use_bias=False,
            kernel_init=normal(self.width**-0.5),
            **dtypes,
        )

    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.

        Returns:
          `tokens`: [B, L, D] of the ids, before any norm; `pooled`: [B, D], the class
          token after the final norm.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        batch, length = text.shape
        if length > self.context_length:
            raise ClipinError(
                f"texts of {length} tokens do not fit model.text.context_length = "
                f"{self.context_length}: shorten data.context_length"
            )
        token = self.class_embedding.astype(self.dtype)
        token = jnp.broadcast_to(token, (batch, 1, self.width))
        x = jnp.concatenate([self.token_embedding(text), token], axis=1)
        x = shard_batch(x + self.position_embedding[: length + 1].astype(self.dtype))
        x = self.transformer(x, self._mask(text))
        return {"tokens": x[:, :-1], "pooled": self.ln_final(x[:, -1])}

    def _mask(self, text: Array) -> Array:
        """[B, 1, 1, L + 1] bool: which ids, and the class token, may be looked at."""
        real = text != self.pad_id
        itself = jnp.ones_like(real[:, :1])
        keys = [real, itself] if self.padding_mask == "aligned" else [itself, real]
        return jnp.concatenate(keys, axis=1)[:, None, None, :]

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Predicts each next id from the text so far and the image.

        Args:
          text: [B, L] int32; not read, `text_tokens` says it.
          text_tokens: [B, L, D], the tower's own `tokens`.
          image_tokens: [B, N, C].

        Returns:
          [B, L, V] logits; position l predicts id l + 1.
        """
        x = self.decoder(text_tokens, image_tokens)
        return self.vocabulary(self.ln_decoder(x))
