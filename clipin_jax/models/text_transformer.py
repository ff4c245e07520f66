"""Text transformer, by default in OpenAI CLIP's form (openai/CLIP, `clip/model.py`).

Seeing all positions and pooling the last one, it is that of google-research/big_vision
(`models/proj/image_text/text_transformer.py`).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm, check_option, shard_batch
from clipin_jax.models.transformer import (
    XAVIER_INIT,
    Transformer,
    blocks_of,
    clip_text_init,
)
from clipin_jax.types import Array

POOLS = ("end", "last")
PADDING = 0
INITIALIZERS = {  # (width, depth) to that of the blocks, and the spread of both tables
    "normal": lambda width, depth: (clip_text_init(width, depth), 0.02, 0.01),
    "xavier": lambda width, depth: (XAVIER_INIT, width**-0.5, width**-0.5),
}


class TextTransformer(nn.Module):
    """Token and position tables, blocks with norms inside, final norm, pooling.

    Padding is not masked. Behind the end token the causal mask hides it from what is
    pooled there. Where nothing is hidden, padding is a token like others.

    Attributes:
      causal: whether a position sees only those up to itself.
      pool: `end` (the last place that is no padding, where the end token stands) or
        `last` (the last place: pad with the end token, so that it always stands there).
      activation: a key of `transformer.ACTIVATIONS`.
      initializer: `normal` (CLIP's, shrunk with depth) or `xavier` (Xavier-uniform
        blocks with perceptron biases N(0, 1e-6), both tables N(0, 1/width)).
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (r"^\w*embed", blocks_of("transformer"))
    width: int
    depth: int
    num_heads: int
    context_length: int
    vocab_size: int
    mlp_ratio: float = 4
    causal: bool = True
    pool: str = "end"
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    initializer: str = "normal"
    scan_layers: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, text: Array, train: bool = False) -> dict[str, Array]:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.

        Returns:
          `tokens`: [B, L, D] after the final norm, `pooled`: [B, D] out of them.

        Raises:
          ClipinError: the text is longer than the position table, or an unknown pool or
            initialisation.
        """
        check_option("model.text.pool", self.pool, POOLS)
        check_option("model.text.initializer", self.initializer, INITIALIZERS)
        begin = INITIALIZERS[self.initializer](self.width, self.depth)
        matrices, token_spread, position_spread = begin
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        embed = nn.Embed(
            self.vocab_size, self.width, **dtypes, name="token_embedding",
            embedding_init=nn.initializers.normal(token_spread),
        )  # fmt: skip
        table = self._position_table(text.shape[1], position_spread)
        x = shard_batch(embed(text) + table.astype(self.dtype))
        x = Transformer(
            self.depth, self.num_heads, self.mlp_ratio, self.activation,
            self.causal, self.norm_eps, matrices, self.scan_layers, self.remat,
            **dtypes, name="transformer",
        )(x)  # fmt: skip
        x = LayerNorm(self.norm_eps, name="ln_final", **dtypes)(x)
        return {"tokens": x, "pooled": self._pool(x, text)}

    def _position_table(self, length: int, spread: float) -> Array:
        if length > self.context_length:
            raise ClipinError(
                f"texts of {length} tokens do not fit model.text.context_length = "
                f"{self.context_length}: shorten data.context_length"
            )
        init, shape = nn.initializers.normal(spread), (self.context_length, self.width)
        table = self.param("position_embedding", init, shape, self.param_dtype)
        return table[:length]

    def _pool(self, x: Array, text: Array) -> Array:
        if self.pool == "last":
            return x[:, -1]
        # Not the largest id, as in CLIP: that is the end token of its vocabulary only.
        end = text.shape[1] - 1 - jnp.argmax(text[:, ::-1] != PADDING, axis=-1)
        return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
