"""The transformer of all towers: attention, blocks, their stack, attention pooling."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import (
    Initializer,
    LayerNorm,
    Linear,
    fan_in_uniform,
    shard_batch,
)
from clipin_jax.types import Array

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


class BlockInit(NamedTuple):
    """Initialisers of the four matrices of a transformer block."""

    qkv: Initializer
    out: Initializer
    mlp_in: Initializer
    mlp_out: Initializer


# PyTorch's attention is Xavier on the fused matrix, its linear layers fan-in uniform.
PYTORCH_INIT = BlockInit(
    nn.initializers.xavier_uniform(), fan_in_uniform, fan_in_uniform, fan_in_uniform
)


def clip_text_init(width: int, depth: int) -> BlockInit:
    """CLIP's normal initialisation of text blocks, shrunk with depth on the residual.

    Source: openai/CLIP, `clip/model.py`, `initialize_parameters`.
    """
    normal = nn.initializers.normal
    residual = width**-0.5 * (2 * depth) ** -0.5
    return BlockInit(
        normal(width**-0.5), normal(residual), normal((2 * width) ** -0.5),
        normal(residual),
    )  # fmt: skip


def attend(query: Array, key: Array, value: Array, *, causal: bool = False) -> Array:
    """Scaled dot-product attention, softmax in at least float32.

    jax's own takes the softmax in float32 whatever the input, which is too coarse for
    comparisons in float64: there the same is spelt out.

    Args:
      query: [B, N, heads, D/heads].
      key, value: [B, M, heads, D/heads].
      causal: whether position n sees positions up to n only.

    Returns:
      [B, N, heads, D/heads].
    """
    query = query * query.shape[-1] ** -0.5  # cheaper than to scale the logits
    if query.dtype != jnp.float64:
        return jax.nn.dot_product_attention(
            query, key, value, scale=1.0, is_causal=causal
        )
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key)
    if causal:
        logits = jnp.where(jnp.tri(*logits.shape[2:], dtype=bool), logits, -jnp.inf)
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(logits), value)


class Attention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection."""

    num_heads: int
    causal: bool
    matrices: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, N, D] to [B, N, D]; softmax in at least float32."""
        batch, length, width = x.shape
        zeros = nn.initializers.zeros
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype, bias_init=zeros)
        qkv = Linear(3 * width, kernel_init=self.matrices.qkv, **dtypes, name="qkv")(x)
        heads = (batch, length, self.num_heads, width // self.num_heads)
        query, key, value = (y.reshape(heads) for y in jnp.split(qkv, 3, axis=-1))
        y = attend(query, key, value, causal=self.causal)
        y = y.reshape(batch, length, width)
        return Linear(width, kernel_init=self.matrices.out, **dtypes, name="out")(y)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron."""

    num_heads: int
    mlp_ratio: float
    activation: str
    causal: bool
    norm_eps: float
    matrices: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, N, D] to [B, N, D]."""
        width = x.shape[-1]
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = LayerNorm(self.norm_eps, name="ln_1", **dtypes)(x)
        attention = Attention(
            self.num_heads, self.causal, self.matrices, **dtypes, name="attention"
        )
        x = shard_batch(x + attention(y))
        y = LayerNorm(self.norm_eps, name="ln_2", **dtypes)(x)
        hidden = int(self.mlp_ratio * width)
        y = Linear(hidden, kernel_init=self.matrices.mlp_in, **dtypes, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        y = Linear(width, kernel_init=self.matrices.mlp_out, **dtypes, name="mlp_out")(
            y
        )
        return shard_batch(x + y)


class Transformer(nn.Module):
    """A stack of `depth` blocks.

    `scan_layers` makes it a loop over one compiled block whose parameters are stacked
    on a leading axis (`blocks`): compilation is short, right on TPU. Without it every
    layer has parameters of its own (`blocks_0`, ...), which saves their copies and is
    faster on CPU. `remat` recomputes activations in the backward pass.
    """

    depth: int
    num_heads: int
    mlp_ratio: float
    activation: str
    causal: bool
    norm_eps: float
    matrices: BlockInit
    scan_layers: bool
    remat: bool
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, N, D] to [B, N, D]; ClipinError for options that make no sense."""
        self._check_options(x.shape[-1])
        block_class = Block
        if self.remat:
            block_class = nn.remat(Block, prevent_cse=not self.scan_layers)
        make_block = functools.partial(
            block_class, self.num_heads, self.mlp_ratio, self.activation, self.causal,
            self.norm_eps, self.matrices, self.dtype, self.param_dtype,
        )  # fmt: skip
        if not self.scan_layers:
            for i in range(self.depth):
                x = make_block(name=f"blocks_{i}")(x)
            return x
        stack = nn.scan(
            lambda block, x, _: (block(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        return stack(make_block(name="blocks"), x, None)[0]

    def _check_options(self, width: int) -> None:
        if self.activation not in ACTIVATIONS:
            raise ClipinError(
                f"activation {self.activation!r} of a tower is unknown: use one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if self.num_heads < 1 or width % self.num_heads:
            raise ClipinError(
                f"num_heads = {self.num_heads} of a tower does not divide its width "
                f"{width}"
            )


class AttentionPool(nn.Module):
    """Pools tokens by attention from one learned query, then a residual perceptron.

    The head of SigLIP's towers (google-research/big_vision, `models/vit.py`, MAPHead).
    """

    num_heads: int
    mlp_ratio: float
    activation: str
    norm_eps: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, N, D] to [B, D]."""
        batch, _, width = x.shape
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        xavier = nn.initializers.xavier_uniform()
        query = self.param("query", xavier, (1, width), self.param_dtype)
        query = jnp.broadcast_to(query.astype(self.dtype), (batch, 1, width))

        def heads(name: str, y: Array) -> Array:
            y = Linear(width, kernel_init=xavier, **dtypes, name=name)(y)
            return y.reshape(batch, -1, self.num_heads, width // self.num_heads)

        pooled = attend(
            heads("query_in", query), heads("key_in", x), heads("value_in", x)
        )
        pooled = Linear(width, **dtypes, name="out")(pooled.reshape(batch, width))
        y = LayerNorm(self.norm_eps, name="ln", **dtypes)(pooled)
        y = Linear(int(self.mlp_ratio * width), **dtypes, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        return pooled + Linear(width, **dtypes, name="mlp_out")(y)
