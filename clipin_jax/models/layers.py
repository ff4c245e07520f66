"""The bricks of all towers and heads: linear, attention, blocks, batch norm, pooling.

Parameters have `param_dtype`; products run in `dtype`; norms and softmax in at least
float32. Initialisers are explicit, since the field's codes differ from flax in them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.types import Array

Initializer = Callable[..., Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}

# PyTorch's default of a linear layer: uniform in +-1/sqrt(fan_in).
fan_in_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def at_least_float32(dtype: Any) -> Any:
    """The dtype in which norms and losses are computed for a compute dtype."""
    return jnp.promote_types(dtype, jnp.float32)


def shard_batch(x: Array) -> Array:
    """Keeps the first axis split over the mesh, where there is one.

    Without this the partitioner may gather activations once parameters are sharded.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(mesh.axis_names)
    if not axes or x.shape[0] % mesh.size:
        return x
    spec = jax.sharding.PartitionSpec(axes, *[None] * (x.ndim - 1))
    return jax.lax.with_sharding_constraint(x, spec)


class Linear(nn.Module):
    """`x @ kernel + bias`: [..., D] to [..., features] in `dtype`.

    The default initialisation is PyTorch's (uniform in +-1/sqrt(D), bias included).
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = fan_in_uniform
    bias_init: Initializer | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = x.astype(self.dtype) @ jnp.asarray(kernel, self.dtype)
        if not self.use_bias:
            return y
        bound = shape[0] ** -0.5
        default = nn.initializers.uniform(2 * bound)
        init = self.bias_init or (lambda *args: default(*args) - bound)
        bias = self.param("bias", init, (self.features,), self.param_dtype)
        return y + jnp.asarray(bias, self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over axis 0 with PyTorch's running statistics.

    Statistics are two-pass, in at least float32, over the global batch: under `jit` a
    mean over a sharded axis already is a mean over all devices. The running variance
    takes the unbiased estimate. flax's own uses E[x^2] - E[x]^2 and the biased one.
    """

    affine: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalises x: [B, D] with the batch's (train) or running statistics."""
        dtype, width = x.dtype, x.shape[-1]
        stats = self.param_dtype
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,), stats)
        running_var = self.variable("batch_stats", "var", jnp.ones, (width,), stats)
        x = x.astype(at_least_float32(dtype))
        if train:
            mean = x.mean(axis=0)
            var = jnp.mean(jnp.square(x - mean), axis=0)
        else:
            mean, var = running_mean.value, running_var.value
        if train and not self.is_initializing():
            keep, count = self.momentum, x.shape[0]
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        if self.affine:
            ones, zeros = nn.initializers.ones, nn.initializers.zeros
            y = y * self.param("scale", ones, (width,), self.param_dtype)
            y = y + self.param("bias", zeros, (width,), self.param_dtype)
        return y.astype(dtype)


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
    if query.dtype != jnp.float64:
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key) * query.shape[-1] ** -0.5
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
        heads = (batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = jnp.moveaxis(qkv.reshape(heads), 2, 0)  # [B, N, heads, D/h]
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
        y = layer_norm(self.norm_eps, name="ln_1", **dtypes)(x)
        attention = Attention(
            self.num_heads, self.causal, self.matrices, **dtypes, name="attention"
        )
        x = shard_batch(x + attention(y))
        y = layer_norm(self.norm_eps, name="ln_2", **dtypes)(x)
        hidden = int(self.mlp_ratio * width)
        y = Linear(hidden, kernel_init=self.matrices.mlp_in, **dtypes, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        y = Linear(width, kernel_init=self.matrices.mlp_out, **dtypes, name="mlp_out")(
            y
        )
        return shard_batch(x + y)


class Transformer(nn.Module):
    """A stack of `depth` blocks whose parameters are stacked on a leading axis.

    The parameters are the same whether the layers are a loop (`scan_layers`: one
    compiled block, short compilation, right on TPU) or unrolled (faster on CPU), and
    whether activations are recomputed in the backward pass (`remat`).
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
        block_class = nn.remat(Block, prevent_cse=False) if self.remat else Block
        block = block_class(
            self.num_heads, self.mlp_ratio, self.activation, self.causal,
            self.norm_eps, self.matrices, self.dtype, self.param_dtype, name="blocks",
        )  # fmt: skip
        stack = nn.scan(
            lambda block, x, _: (block(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=1 if self.scan_layers else self.depth,
        )
        return stack(block, x, None)[0]

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
        y = layer_norm(self.norm_eps, name="ln", **dtypes)(pooled)
        y = Linear(int(self.mlp_ratio * width), **dtypes, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        return pooled + Linear(width, **dtypes, name="mlp_out")(y)


def layer_norm(epsilon: float, *, name: str, dtype: Any, param_dtype: Any) -> Any:
    """Layer norm with two-pass variance, as every reference code computes it."""
    return nn.LayerNorm(
        epsilon, dtype=dtype, param_dtype=param_dtype, use_fast_variance=False,
        name=name,
    )  # fmt: skip
