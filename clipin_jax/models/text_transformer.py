"""The causal text transformer of CLIP (openai/CLIP, `clip/model.py`)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm, shard_batch
from clipin_jax.models.transformer import Transformer, clip_text_init
from clipin_jax.types import Array


class TextTransformer(nn.Module):
    """Token and position tables, causal pre-norm blocks, final norm, end-token pooling.

    Padding is not masked: it stands behind the end token, where the causal mask hides
    it from everything that is pooled.
    """

    width: int
    depth: int
    num_heads: int
    context_length: int
    vocab_size: int
    mlp_ratio: float = 4
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    scan_layers: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`; the end token is the largest
            id of each row.

        Returns:
          `tokens`: [B, L, D] after the final norm, `pooled`: [B, D] at the end token.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        length = text.shape[1]
        if length > self.context_length:
            raise ClipinError(
                f"texts of {length} tokens do not fit model.text.context_length = "
                f"{self.context_length}: shorten data.context_length"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        normal = nn.initializers.normal
        embed = nn.Embed(
            self.vocab_size, self.width, embedding_init=normal(0.02), **dtypes,
            name="token_embedding",
        )  # fmt: skip
        shape = (self.context_length, self.width)
        table = self.param("position_embedding", normal(0.01), shape, self.param_dtype)
        x = shard_batch(embed(text) + table[:length].astype(self.dtype))
        x = Transformer(
            self.depth, self.num_heads, self.mlp_ratio, self.activation, True,
            self.norm_eps, clip_text_init(self.width, self.depth), self.scan_layers,
            self.remat, **dtypes, name="transformer",
        )(x)  # fmt: skip
        x = LayerNorm(self.norm_eps, name="ln_final", **dtypes)(x)
        end = jnp.argmax(text, axis=-1)
        pooled = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        return {"tokens": x, "pooled": pooled}
