"""The transformer of most towers: attention, blocks, their stack."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.attention.choice import IMPLEMENTATIONS, self_attend
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.attention.taps import RECORDED, TAPS, attention_tap
from clipin_jax.models.layers import (
    Initializer,
    LayerNorm,
    Linear,
    check_option,
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
      attention: one of `attention.choice.IMPLEMENTATIONS`.
    """

    num_heads: int
    mlp_ratio: float
    activation: str
    norm_eps: float
    initializers: BlockInit
    dtype: Any
    param_dtype: Any
    causal: bool = False
    attention: str = "auto"

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


class Attention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection."""

    options: BlockOptions

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Returns [B, N, D]; x: [B, N, D]; mask as in `attend`."""
        o, (batch, length, width) = self.options, x.shape
        zeros = nn.initializers.zeros
        # The kernel adds the bias: an addition of its own is a pass over memory.
        qkv, bias = o.linear(
            3 * width, "qkv", kernel_init=o.initializers.qkv, bias_init=zeros
        ).terms(x)
        y = self_attend(
            qkv,
            bias,
            o.num_heads,
            o.attention,
            causal=o.causal,
            mask=mask,
            tap=attention_tap(self, "self", (batch, o.num_heads, length, length)),
        )
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
          ClipinError: an unknown activation, attention or policy of `remat`, or heads
            that do not divide the width.
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
        check_option("model.attention", self.options.attention, IMPLEMENTATIONS)
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
