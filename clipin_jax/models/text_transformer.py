"""Text transformer, by default in OpenAI CLIP's form (openai/CLIP, `clip/model.py`).

Without the causal mask, and pooled at the last position, it is that of
google-research/big_vision (`models/proj/image_text/text_transformer.py`).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.models.layers import (
    LayerNorm,
    check_length,
    check_option,
    shard_batch,
)
from clipin_jax.models.transformer import (
    XAVIER_INIT,
    BlockOptions,
    Transformer,
    blocks_of,
    clip_text_init,
)
from clipin_jax.types import Array, TowerFeatures

POOLS = ("end", "last")
PADDING = 0
# (width, depth) -> initialisation of the blocks, standard deviation of both tables
INITIALIZERS = {
    "normal": lambda width, depth: (clip_text_init(width, depth), 0.02, 0.01),
    "xavier": lambda width, depth: (XAVIER_INIT, width**-0.5, width**-0.5),
}


class TextTransformer(nn.Module):
    """Token and position tables, blocks with norms inside, final norm, pooling.

    Padding is not masked. With the causal mask the end token, which is pooled, does not
    attend to the padding after it. Without, padding is a token like others. The default
    sizes are those of CLIP's text tower for ViT-B.

    Attributes:
      width: D of every token.
      depth: number of blocks.
      num_heads: of attention; divides the width.
      context_length: L, positions of a text, the start and end tokens among them.
      vocab_size: rows of the token table.
      mlp_ratio: width inside the perceptrons, in units of the width.
      causal: whether a position attends only to positions up to itself.
      pool: `end` (the last position that is not padding: the end token) or `last` (the
        last position: pad with the end token, so that it is always there).
      activation: a key of `transformer.ACTIVATIONS`.
      norm_eps: added to the variance by layer norms.
      initializer: `normal` (CLIP's, smaller in deeper stacks) or `xavier`
        (Xavier-uniform blocks with perceptron biases N(0, 1e-6), both tables
        N(0, 1/width)).
      scan_layers: see `transformer.apply_layers`.
      remat: what the backward pass keeps of a block, a key of `remat.POLICIES`.
      attention: one of `attention.choice.IMPLEMENTATIONS`.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (r"^\w*embed", blocks_of("transformer"))
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    context_length: int = 77
    vocab_size: int = 49408
    mlp_ratio: float = 4
    causal: bool = True
    pool: str = "end"
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    initializer: str = "normal"
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: not used.

        Returns:
          `tokens`: [B, L, D] after the final norm; `pooled`: [B, D], one of them.

        Raises:
          ClipinError: the text is longer than the position table, or an unknown pool or
            initialisation.
        """
        check_option("model.text.pool", self.pool, POOLS)
        check_option("model.text.initializer", self.initializer, INITIALIZERS)
        check_length(text, self.context_length)
        make_init = INITIALIZERS[self.initializer]
        block_init, token_std, position_std = make_init(self.width, self.depth)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        embed = nn.Embed(
            self.vocab_size, self.width, **dtypes, name="token_embedding",
            embedding_init=nn.initializers.normal(token_std),
        )  # fmt: skip
        table = self.param(
            "position_embedding", nn.initializers.normal(position_std),
            (self.context_length, self.width), self.param_dtype,
        )  # fmt: skip
        positions = table[: text.shape[1]]
        x = shard_batch(embed(text) + positions.astype(self.dtype))
        options = BlockOptions(
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            norm_eps=self.norm_eps,
            initializers=block_init,
            **dtypes,
            causal=self.causal,
            attention=self.attention,
        )
        x = Transformer(
            depth=self.depth,
            options=options,
            scan_layers=self.scan_layers,
            remat=self.remat,
            name="transformer",
        )(x)
        x = LayerNorm(self.norm_eps, name="ln_final", **dtypes)(x)
        return {"tokens": x, "pooled": self._pool(x, text)}

    def _pool(self, x: Array, text: Array) -> Array:
        if self.pool == "last":
            return x[:, -1]
        # Not the largest id, as in CLIP: only its vocabulary ends with the end token.
        end = text.shape[1] - 1 - jnp.argmax(text[:, ::-1] != PADDING, axis=-1)
        return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
