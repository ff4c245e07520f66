"""The layers of all towers and heads: linear layers, how they start, norms.

Parameters have `param_dtype`; products run in `dtype`; norms in at least float32.
Initialisers are explicit, since published codes differ from flax in them.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.types import Array

Initializer = Callable[..., Array]
# Parameters that a linear layer may have beside its kernel, see `core.lora`.
FACTOR_A, FACTOR_B, FACTOR_SCALE = "lora_a", "lora_b", "lora_scale"

# PyTorch's default of a linear layer: uniform in +-1/sqrt(fan_in).
fan_in_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def at_least_float32(dtype: Any) -> Any:
    """Returns the dtype of norms and losses for a compute dtype."""
    return jnp.promote_types(dtype, jnp.float32)


def orthogonal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns a matrix with orthonormal rows or columns, whichever are fewer.

    A product of two linear layers that start so has equal singular values. A product of
    two random matrices has a few strong directions, which are learned first
    (docs/guides/study.md).
    """
    exact = at_least_float32(dtype)  # there is no QR decomposition in bfloat16
    return nn.initializers.orthogonal()(key, shape, exact).astype(dtype)


_CLIP = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
# Name -> arguments of `Linear`.
LINEAR_INITS: Mapping[str, dict[str, Any]] = {
    "released": {},  # as the published code of the layer
    "clip": dict(kernel_init=_CLIP, bias_init=nn.initializers.zeros),
    "orthogonal": dict(kernel_init=orthogonal, bias_init=nn.initializers.zeros),
}


def check_option(key: str, value: str, known: Iterable[str]) -> None:
    """Checks the value of a config key.

    Raises:
      ClipinError: the value is not among the known ones.
    """
    if value not in known:
        raise ClipinError(f"{key} is {value!r}: {did_you_mean(value, known)}")


def check_length(text: Array, context_length: int) -> None:
    """Checks that texts [B, L] fit the position table of a text tower.

    Raises:
      ClipinError: they are longer.
    """
    if text.shape[1] > context_length:
        raise ClipinError(
            f"texts of {text.shape[1]} tokens do not fit model.text.context_length = "
            f"{context_length}: reduce data.context_length"
        )


class Split(NamedTuple):
    """How the mesh splits the rows of a batch.

    Attributes:
      axes: of the mesh, the slowest first; none if every row is on each device.
      devices: along these axes, 1 without any.
    """

    axes: tuple[str, ...]
    devices: int


def mesh_split() -> Split:
    """Returns how the mesh splits a batch that it divides: over all of its axes.

    Axes that a `jax.shard_map` around has split already are left out: there, an array
    has the rows of one place along them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(name for name in mesh.axis_names if name not in mesh.manual_axes)
    devices = math.prod(mesh.shape[name] for name in axes)
    return Split(axes, devices) if devices > 1 else Split((), 1)


def batch_split(rows: int) -> Split:
    """Returns how the mesh splits rows: not at all if it does not divide their number.

    Initialisation and evaluation may have such a batch.
    """
    split = mesh_split()
    return split if rows % split.devices == 0 else Split((), 1)


def shard_batch(x: Array) -> Array:
    """Returns x with its first axis split over the mesh, see `batch_split`."""
    # Otherwise the partitioner may gather activations where parameters are sharded.
    if not (axes := batch_split(x.shape[0]).axes):
        return x
    spec = jax.sharding.PartitionSpec(axes, *[None] * (x.ndim - 1))
    return jax.lax.with_sharding_constraint(x, spec)


class Linear(nn.Module):
    """`x @ kernel + bias`: [..., D] to [..., features] in `dtype`.

    The default initialisation is PyTorch's (uniform in +-1/sqrt(D), bias included).
    Where its parameters have low-rank factors, their product is added to the kernel.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = fan_in_uniform
    bias_init: Initializer | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __call__(self, x: Array) -> Array:
        """Returns [..., features] in `dtype`; x: [..., D]."""
        product, bias = self.terms(x)
        return product + bias if self.use_bias else product

    @nn.compact
    def terms(self, x: Array) -> tuple[Array, Array]:
        """Returns the product, [..., features], and the bias, [features], in `dtype`.

        Without a bias that is 0.
        """
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        x = x.astype(self.dtype)
        product = x @ jnp.asarray(kernel, self.dtype)
        if self.has_variable("params", FACTOR_A):
            product = product + self._low_rank(x)
        if not self.use_bias:
            return product, jnp.zeros((self.features,), self.dtype)
        bound = shape[0] ** -0.5
        default = nn.initializers.uniform(2 * bound)
        init = self.bias_init or (lambda *args: default(*args) - bound)
        bias = self.param("bias", init, (self.features,), self.param_dtype)
        return product, jnp.asarray(bias, self.dtype)

    def _low_rank(self, x: Array) -> Array:
        """Returns [..., features]; the factors are [D, R] and [R, features]."""
        a, b, scale = (
            jnp.asarray(self.get_variable("params", name), self.dtype)
            for name in (FACTOR_A, FACTOR_B, FACTOR_SCALE)
        )
        return (x @ a * scale) @ b


class LogitFactors(NamedTuple):
    """Logits over a vocabulary as the factors of their product, which is far larger.

    Attributes:
      states: [..., D] in the dtype of the product.
      table: [D, V] of any float dtype.
      bias: [V]; None for none.
    """

    states: Array
    table: Array
    bias: Array | None = None

    def logits(self) -> Array:
        """Returns [..., V] in the dtype of `states`."""
        logits = self.states @ self.table.astype(self.states.dtype)
        return logits if self.bias is None else logits + self.bias.astype(logits.dtype)


class Vocabulary(nn.Module):
    """A linear layer without bias that leaves its product, the logits, to the caller.

    Attributes:
      size: V.
      kernel_init: of the table.
      dtype: of the product.
    """

    size: int
    kernel_init: Initializer
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> LogitFactors:
        """Returns the factors of [..., V]; x: [..., D]."""
        shape = (x.shape[-1], self.size)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        # The table is not cast: where it is used in parts, its gradient is their sum.
        return LogitFactors(x.astype(self.dtype), jnp.asarray(kernel))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's statistics.

    Statistics are two-pass, in at least float32, over the global batch: under `jit` a
    mean over a sharded axis is a mean over all devices. The running variance is that of
    unbiased estimates. flax's module uses E[x^2] - E[x]^2 and biased estimates.
    """

    affine: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalises x, [..., D], with batch statistics (train) or running ones."""
        dtype, width = x.dtype, x.shape[-1]
        stats = self.param_dtype
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,), stats)
        running_var = self.variable("batch_stats", "var", jnp.ones, (width,), stats)
        x = x.astype(at_least_float32(dtype))
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axis=axes)
            var = jnp.mean(jnp.square(x - mean), axis=axes)
        else:
            mean, var = running_mean.value, running_var.value
        if train and not self.is_initializing():
            keep, count = self.momentum, x.size // width
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        if self.affine:
            zeros = nn.initializers.zeros
            y = y * self.param("scale", self.scale_init, (width,), self.param_dtype)
            y = y + self.param("bias", zeros, (width,), self.param_dtype)
        return y.astype(dtype)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, in at least float32.

    The variance is two-pass, as in every reference code, but for half precision. flax's
    module uses E[x^2] - E[x]^2, or two passes without a gradient of its own, which is
    slow.
    """

    epsilon: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns [..., D] in `dtype`; x: [..., D]."""
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale = self.param("scale", ones, (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", zeros, (x.shape[-1],), self.param_dtype)
        x = normalise(x, self.epsilon)
        return (x * scale + bias).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalise(x: Array, epsilon: float) -> Array:
    """Returns x: [..., D] with mean 0 and variance 1 along D, in at least float32."""
    return _normalise(x, epsilon)[0]


def _normalise(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array, Array]]:
    wide = x.astype(at_least_float32(x.dtype))
    mean = wide.mean(axis=-1, keepdims=True)
    if x.dtype.itemsize < wide.dtype.itemsize:
        # One pass over memory. What cancels in float32 is far below the rounding of x.
        square = jnp.square(wide).mean(axis=-1, keepdims=True)
        variance = jnp.maximum(square - jnp.square(mean), 0)
    else:
        variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    # x is saved in its dtype: in half precision that is half the memory.
    return (wide - mean) * inverse, (x, mean, inverse)


def _normalise_gradient(
    epsilon: float, saved: tuple[Array, Array, Array], gradient: Array
) -> tuple[Array]:
    # The automatic gradient reads the activations several times more often.
    x, mean, inverse = saved
    y = (x.astype(mean.dtype) - mean) * inverse
    along = (gradient * y).mean(axis=-1, keepdims=True)
    centred = gradient - gradient.mean(axis=-1, keepdims=True)
    return ((inverse * (centred - y * along)).astype(x.dtype),)


normalise.defvjp(_normalise, _normalise_gradient)


def unit(x: Array) -> Array:
    """Divides the last axis by its 2-norm, in at least float32.

    Args:
      x: [..., D] of any float dtype.

    Returns:
      [..., D] float32 (float64 for float64). A zero vector stays zero, with a finite
      gradient: the norm is floored at 1e-12 under the root.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-24))
