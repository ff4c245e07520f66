"""The transformer of most towers: attention, blocks, their stack."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import (
    SEEN,
    TAPS,
    Initializer,
    LayerNorm,
    Linear,
    at_least_float32,
    attention_tap,
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
    """Initialisers of a transformer block's matrices and of its perceptron's biases."""

    qkv: Initializer
    out: Initializer
    mlp_in: Initializer
    mlp_out: Initializer
    mlp_bias: Initializer | None = None  # that of `Linear`


# PyTorch's attention is Xavier on the fused matrix, its linear layers fan-in uniform.
PYTORCH_INIT = BlockInit(
    nn.initializers.xavier_uniform(), fan_in_uniform, fan_in_uniform, fan_in_uniform
)

# Xavier on query, key and value apart, which fused matrices have to be told; biases
# next to nothing. Source: google-research/big_vision, `models/vit.py`.
XAVIER_INIT = BlockInit(
    nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    nn.initializers.xavier_uniform(), nn.initializers.xavier_uniform(),
    nn.initializers.xavier_uniform(), nn.initializers.normal(1e-6),
)  # fmt: skip


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


def blocks_of(stack: str) -> str:
    """Returns the pattern of a stack's parameters, for `layer_order`."""
    return rf"^{stack}/blocks(?:_(\d+))?/"


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool = False,
    mask: Array | None = None,
    drop: Callable[[Array], Array] | None = None,
    tap: Callable[[Array], Array] | None = None,
) -> Array:
    """Scaled dot-product attention, softmax in at least float32.

    jax's own takes the softmax in float32 whatever the input, which is too coarse for
    comparisons in float64, and drops nothing: there the same is spelt out.

    Args:
      query: [B, N, heads, D/heads].
      key, value: [B, M, heads, D/heads].
      causal: whether position n sees positions up to n only.
      mask: bool that broadcasts to [B, heads, N, M], true where query n sees key m. A
        query that sees nothing gets finite numbers.
      drop: dropout of the attention weights [B, heads, N, M].
      tap: what is done to them before, see `layers.attention_tap`.

    Returns:
      [B, N, heads, D/heads].
    """
    query = query * query.shape[-1] ** -0.5  # cheaper than to scale the logits
    if query.dtype != jnp.float64 and drop is None and tap is None:
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, scale=1.0, is_causal=causal
        )
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key)
    logits = logits.astype(at_least_float32(logits.dtype))
    hidden = jnp.finfo(logits.dtype).min
    if causal:
        logits = jnp.where(jnp.tri(*logits.shape[2:], dtype=bool), logits, hidden)
    if mask is not None:
        logits = jnp.where(mask, logits, hidden)
    weights = jax.nn.softmax(logits)
    if tap is not None:
        weights = tap(weights)
    if drop is not None:
        weights = drop(weights)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(value.dtype), value)


class Attention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection."""

    num_heads: int
    causal: bool
    matrices: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """x: [B, N, D] to [B, N, D]; softmax in at least float32; mask as `attend`."""
        batch, length, width = x.shape
        zeros = nn.initializers.zeros
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype, bias_init=zeros)
        qkv = Linear(3 * width, kernel_init=self.matrices.qkv, **dtypes, name="qkv")(x)
        heads = (batch, length, self.num_heads, width // self.num_heads)
        query, key, value = (y.reshape(heads) for y in jnp.split(qkv, 3, axis=-1))
        tap = attention_tap(self, "self", (batch, self.num_heads, length, length))
        y = attend(query, key, value, causal=self.causal, mask=mask, tap=tap)
        y = y.reshape(batch, length, width)
        return Linear(width, kernel_init=self.matrices.out, **dtypes, name="out")(y)


class CrossAttention(nn.Module):
    """Multi-head attention to other tokens, which may be of another width."""

    num_heads: int
    matrices: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """x: [B or 1, N, D] and context: [B, M, C] to [B, N, D]."""
        _, length, width = x.shape
        batch, zeros = context.shape[0], nn.initializers.zeros
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype, bias_init=zeros)

        def heads(name: str, y: Array) -> Array:
            y = Linear(width, kernel_init=self.matrices.qkv, **dtypes, name=name)(y)
            y = y.reshape(*y.shape[:2], self.num_heads, width // self.num_heads)
            return jnp.broadcast_to(y, (batch, *y.shape[1:]))

        shape = (batch, self.num_heads, length, context.shape[1])
        y = attend(
            heads("query_in", x), heads("key_in", context), heads("value_in", context),
            tap=attention_tap(self, "cross", shape),
        ).reshape(batch, length, width)  # fmt: skip
        return Linear(width, kernel_init=self.matrices.out, **dtypes, name="out")(y)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron.

    Given a context, the attention looks at that instead of at its own tokens.
    """

    num_heads: int
    mlp_ratio: float
    activation: str
    causal: bool
    norm_eps: float
    matrices: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None = None, context: Array | None = None
    ) -> Array:
        """x: [B, N, D] to [B, N, D]; mask as `attend`; context: [B, M, C]."""
        width = x.shape[-1]
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = LayerNorm(self.norm_eps, name="ln_1", **dtypes)(x)
        if context is None:
            y = Attention(
                self.num_heads, self.causal, self.matrices, **dtypes, name="attention"
            )(y, mask)
        else:
            context = LayerNorm(self.norm_eps, name="ln_context", **dtypes)(context)
            y = CrossAttention(
                self.num_heads, self.matrices, **dtypes, name="attention"
            )(y, context)
        x = shard_batch(x + y)
        y = LayerNorm(self.norm_eps, name="ln_2", **dtypes)(x)
        hidden = int(self.mlp_ratio * width)
        init, bias = self.matrices, dict(bias_init=self.matrices.mlp_bias)
        y = Linear(hidden, kernel_init=init.mlp_in, **bias, **dtypes, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        y = Linear(width, kernel_init=init.mlp_out, **bias, **dtypes, name="mlp_out")(y)
        return shard_batch(x + y)


class CrossBlock(Block):
    """A block over the own tokens, then one that looks at the context."""

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """x: [B, N, D] and context: [B, M, C] to [B, N, D]."""
        sizes = (self.num_heads, self.mlp_ratio, self.activation)
        rest = (self.norm_eps, self.matrices, self.dtype, self.param_dtype)
        x = Block(*sizes, self.causal, *rest, name="self")(x)
        return Block(*sizes, False, *rest, name="cross")(x, context=context)


class Transformer(nn.Module):
    """A stack of `depth` blocks.

    `scan_layers` makes it a loop over one compiled block whose parameters are stacked
    on a leading axis (`blocks`): compilation is short, right on TPU. Without it every
    layer has parameters of its own (`blocks_0`, ...), which saves their copies and is
    faster on CPU. `remat` recomputes activations in the backward pass.

    Attributes:
      block: what the stack is made of: `Block`, or `CrossBlock` which also looks at a
        context.
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
    block: type[nn.Module] = Block

    @nn.compact
    def __call__(self, x: Array, *also: Array) -> Array:
        """x: [B, N, D] to [B, N, D]; ClipinError for options that make no sense.

        `also` is what every block is given beside x, see there: a mask or a context.
        """
        self._check_options(x.shape[-1])
        block_class = self.block
        if self.remat:
            block_class = nn.remat(self.block, prevent_cse=not self.scan_layers)
        make_block = functools.partial(
            block_class, self.num_heads, self.mlp_ratio, self.activation, self.causal,
            self.norm_eps, self.matrices, self.dtype, self.param_dtype,
        )  # fmt: skip
        if not self.scan_layers:
            for i in range(self.depth):
                x = make_block(name=f"blocks_{i}")(x, *also)
            return x
        stack = nn.scan(
            lambda block, x, _: (block(x, *also), None),
            variable_axes={"params": 0, TAPS: 0, SEEN: 0},
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
