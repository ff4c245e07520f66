"""The transformer of most towers: attention, blocks, their stack."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import (
    RECORDED,
    TAPS,
    Initializer,
    LayerNorm,
    Linear,
    at_least_float32,
    attention_tap,
    fan_in_uniform,
    shard_batch,
)
from clipin_jax.models.remat import with_remat
from clipin_jax.types import Array

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


class BlockInit(NamedTuple):
    """Initialisers of the matrices of a block, and of the biases of its perceptron."""

    qkv: Initializer
    out: Initializer
    mlp_in: Initializer
    mlp_out: Initializer
    mlp_bias: Initializer | None = None  # that of `Linear`


# PyTorch's attention is Xavier on the fused matrix, its linear layers fan-in uniform.
PYTORCH_INIT = BlockInit(
    qkv=nn.initializers.xavier_uniform(),
    out=fan_in_uniform,
    mlp_in=fan_in_uniform,
    mlp_out=fan_in_uniform,
)

# Source: google-research/big_vision, `models/vit.py`. There query, key and value are
# separate matrices: Xavier of one of them has this spread in the fused matrix.
XAVIER_INIT = BlockInit(
    qkv=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    out=nn.initializers.xavier_uniform(),
    mlp_in=nn.initializers.xavier_uniform(),
    mlp_out=nn.initializers.xavier_uniform(),
    mlp_bias=nn.initializers.normal(1e-6),
)


def clip_text_init(width: int, depth: int) -> BlockInit:
    """Returns CLIP's normal initialisation of text blocks, smaller in deeper stacks.

    Source: openai/CLIP, `clip/model.py`, `initialize_parameters`.

    Args:
      width: D.
      depth: number of blocks.
    """
    normal = nn.initializers.normal
    residual = width**-0.5 * (2 * depth) ** -0.5
    return BlockInit(
        qkv=normal(width**-0.5),
        out=normal(residual),
        mlp_in=normal((2 * width) ** -0.5),
        mlp_out=normal(residual),
    )


class BlockOptions(NamedTuple):
    """The options that all blocks of a stack share.

    Attributes:
      num_heads: of attention; divides the width.
      mlp_ratio: width inside the perceptron, in units of the width.
      activation: a key of `ACTIVATIONS`.
      norm_eps: of layer norms.
      initializers: of matrices and of the perceptron's biases.
      causal: whether a position attends only to positions up to itself.
    """

    num_heads: int
    mlp_ratio: float
    activation: str
    norm_eps: float
    initializers: BlockInit
    dtype: Any
    param_dtype: Any
    causal: bool = False

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` and `param_dtype`."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    def norm(self, name: str) -> LayerNorm:
        """Returns a layer norm."""
        return LayerNorm(self.norm_eps, **self.dtypes, name=name)

    def linear(self, features: int, name: str, **init: Any) -> Linear:
        """Returns a linear layer."""
        return Linear(features, **init, **self.dtypes, name=name)


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
    """Computes scaled dot-product attention, with the softmax in at least float32.

    Args:
      query: [B, N, heads, D/heads].
      key, value: [B, M, heads, D/heads].
      causal: whether position n attends only to positions up to n.
      mask: bool that broadcasts to [B, heads, N, M], true where query n attends to key
        m. The output of a query without any key is finite.
      drop: dropout of the attention weights [B, heads, N, M].
      tap: applied to the weights before dropout, see `layers.attention_tap`.

    Returns:
      [B, N, heads, D/heads].
    """
    query = query * query.shape[-1] ** -0.5  # cheaper than to scale the logits
    # jax's function takes the softmax in float32, too coarse for comparisons in
    # float64, and has no dropout.
    if query.dtype != jnp.float64 and drop is None and tap is None:
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, scale=1.0, is_causal=causal
        )
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key)
    logits = logits.astype(at_least_float32(logits.dtype))
    masked = jnp.finfo(logits.dtype).min
    if causal:
        logits = jnp.where(jnp.tri(*logits.shape[2:], dtype=bool), logits, masked)
    if mask is not None:
        logits = jnp.where(mask, logits, masked)
    weights = jax.nn.softmax(logits)
    if tap is not None:
        weights = tap(weights)
    if drop is not None:
        weights = drop(weights)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(value.dtype), value)


class Attention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection."""

    options: BlockOptions

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Returns [B, N, D]; x: [B, N, D]; mask as in `attend`."""
        o, (batch, length, width) = self.options, x.shape
        zeros = nn.initializers.zeros
        qkv = o.linear(
            3 * width, "qkv", kernel_init=o.initializers.qkv, bias_init=zeros
        )(x)
        heads = (batch, length, o.num_heads, width // o.num_heads)
        query, key, value = (y.reshape(heads) for y in jnp.split(qkv, 3, axis=-1))
        tap = attention_tap(self, "self", (batch, o.num_heads, length, length))
        y = attend(query, key, value, causal=o.causal, mask=mask, tap=tap)
        y = y.reshape(batch, length, width)
        return o.linear(width, "out", kernel_init=o.initializers.out, bias_init=zeros)(
            y
        )


class CrossAttention(nn.Module):
    """Multi-head attention to other tokens, which may be of another width."""

    num_heads: int
    initializers: BlockInit
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """Returns [B, N, D]; x: [B or 1, N, D]; context: [B, M, C]."""
        _, length, width = x.shape
        batch, zeros = context.shape[0], nn.initializers.zeros
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype, bias_init=zeros)

        def split_heads(name: str, y: Array) -> Array:
            y = Linear(width, kernel_init=self.initializers.qkv, **dtypes, name=name)(y)
            y = y.reshape(*y.shape[:2], self.num_heads, width // self.num_heads)
            return jnp.broadcast_to(y, (batch, *y.shape[1:]))

        shape = (batch, self.num_heads, length, context.shape[1])
        y = attend(
            split_heads("query_in", x),
            split_heads("key_in", context),
            split_heads("value_in", context),
            tap=attention_tap(self, "cross", shape),
        ).reshape(batch, length, width)
        return Linear(width, kernel_init=self.initializers.out, **dtypes, name="out")(y)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron.

    With a context, the attention is to the context instead of to the tokens.
    """

    options: BlockOptions

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None = None, context: Array | None = None
    ) -> Array:
        """Returns [B, N, D]; x: [B, N, D]; mask as in `attend`; context: [B, M, C]."""
        o, width = self.options, x.shape[-1]
        y = o.norm("ln_1")(x)
        if context is None:
            y = Attention(o, name="attention")(y, mask)
        else:
            context = o.norm("ln_context")(context)
            attention = CrossAttention(
                o.num_heads, o.initializers, **o.dtypes, name="attention"
            )
            y = attention(y, context)
        x = shard_batch(x + y)
        y = o.norm("ln_2")(x)
        hidden, bias = int(o.mlp_ratio * width), dict(bias_init=o.initializers.mlp_bias)
        y = o.linear(hidden, "mlp_in", kernel_init=o.initializers.mlp_in, **bias)(y)
        y = ACTIVATIONS[o.activation](y)
        y = o.linear(width, "mlp_out", kernel_init=o.initializers.mlp_out, **bias)(y)
        return shard_batch(x + y)


class CrossBlock(nn.Module):
    """A block of self-attention, then a block of attention to a context."""

    options: BlockOptions

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """Returns [B, N, D]; x: [B, N, D]; context: [B, M, C]."""
        x = Block(self.options, name="self")(x)
        to_context = self.options._replace(causal=False)
        return Block(to_context, name="cross")(x, context=context)


class Transformer(nn.Module):
    """A stack of `depth` blocks.

    Attributes:
      options: of every block.
      scan_layers: see `apply_layers`.
      remat: what the backward pass keeps of a block, a key of `remat.POLICIES`.
      block: `Block`, or `CrossBlock` for attention to a context too.
    """

    depth: int
    options: BlockOptions
    scan_layers: bool
    remat: str
    block: type[Block] | type[CrossBlock] = Block

    @nn.compact
    def __call__(self, x: Array, *others: Array) -> Array:
        """Runs all blocks.

        Args:
          x: [B, N, D].
          others: the other arguments of every block: a mask or a context.

        Returns:
          [B, N, D].

        Raises:
          ClipinError: an unknown activation or policy of `remat`, or heads that do not
            divide the width.
        """
        self._check_options(x.shape[-1])
        block = with_remat(self.block, self.remat, prevent_cse=not self.scan_layers)
        return apply_layers(
            lambda name: block(self.options, name=name),
            lambda layer, x: layer(x, *others),
            x,
            depth=self.depth,
            scan_layers=self.scan_layers,
        )

    def _check_options(self, width: int) -> None:
        activation, num_heads = self.options.activation, self.options.num_heads
        if activation not in ACTIVATIONS:
            raise ClipinError(
                f"activation {activation!r} of a tower is unknown: use one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if num_heads < 1 or width % num_heads:
            raise ClipinError(
                f"num_heads = {num_heads} of a tower does not divide its width {width}"
            )


def apply_layers(
    make_layer: Callable[[str], nn.Module],
    call: Callable[[Any, Array], Array],
    x: Array,
    *,
    depth: int,
    scan_layers: bool,
) -> Array:
    """Applies a stack of equal layers; call it in a compact method.

    Args:
      make_layer: builds a layer with a name.
      call: applies a layer to x.
      x: input of the first layer.
      depth: number of layers.
      scan_layers: whether to loop over one compiled layer, with parameters stacked on a
        leading axis (`blocks`): it compiles faster and suits TPUs. Otherwise each layer
        has its own parameters (`blocks_0`, ...): no copies, faster on CPU.
    """
    if not scan_layers:
        for i in range(depth):
            x = call(make_layer(f"blocks_{i}"), x)
        return x
    loop = nn.scan(
        lambda layer, x, _: (call(layer, x), None),
        variable_axes={"params": 0, TAPS: 0, RECORDED: 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
    return loop(make_layer("blocks"), x, None)[0]
