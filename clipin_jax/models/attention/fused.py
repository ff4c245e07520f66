"""Self-attention of short sequences in one kernel for TPUs, without [N, N] in memory.

The kernel reads the fused query-key-value matrix as the product leaves it: nothing is
split or transposed in the device's memory, and the bias is added on the way. A program
holds the rows of one example in VMEM whole, so the softmax is an ordinary one. The
backward pass computes the weights again and saves nothing but the input.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from clipin_jax.models.layers import batch_split, mesh_split
from clipin_jax.models.remat import computed_again
from clipin_jax.types import Array

LANES = 128  # of a register of a TPU: its last axis
VMEM_BYTES = 16 * 2**20  # for one program, as estimated; every TPU has that much
DTYPES = ("float32", "bfloat16")  # a TPU has no float16

_INTERPRETED = ContextVar("interpreted", default=False)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Runs the kernels that are traced in this context as plain jax, on any device."""
    token = _INTERPRETED.set(True)
    try:
        yield
    finally:
        _INTERPRETED.reset(token)


def is_interpreted() -> bool:
    """Whether the context `interpreted` is active."""
    return _INTERPRETED.get()


class Inputs(NamedTuple):
    """What the kernel reads of a batch; inside of it, references to one example.

    Attributes:
      qkv: [B, N, 3 D], queries, keys and values side by side, each with its heads side
        by side, without their bias.
      bias: [B, 1, 3 D] float32, equal for all examples: each has its own gradient.
      keys: [B, 1, N] int32, not 0 for the positions to attend to; None for all.
    """

    qkv: Any
    bias: Any
    keys: Any = None


def fits(qkv: Array, mask: Array | None = None) -> bool:
    """Whether the kernel takes an input of this shape and dtype, on this mesh.

    In bfloat16 it takes up to about 340 tokens of width 768, 257 of width 1280.

    Args:
      qkv: [B, N, 3 D].
      mask: as in `fused_attention`; one of another shape does not fit.
    """
    batch, length, _ = qkv.shape
    if qkv.dtype not in DTYPES or batch % mesh_split().devices:
        return False
    if mask is not None and mask.shape != (batch, 1, 1, length):
        return False
    return _vmem_bytes(qkv) <= VMEM_BYTES


def fused_attention(
    qkv: Array,
    bias: Array,
    num_heads: int,
    *,
    causal: bool,
    mask: Array | None = None,
) -> Array:
    """Computes multi-head self-attention, with the softmax in float32.

    Args:
      qkv: [B, N, 3 D], queries, keys and values side by side, each with its heads side
        by side, without their bias; see `fits`.
      bias: [3 D].
      num_heads: divides D.
      causal: whether position n attends only to positions up to n.
      mask: [B, 1, 1, N] bool, true for the positions to attend to; None for all.

    Returns:
      [B, N, D].
    """
    batch, length, width = qkv.shape
    rows = jnp.broadcast_to(bias.astype(jnp.float32), (batch, 1, width))
    keys = None if mask is None else mask.reshape(batch, 1, length).astype(jnp.int32)
    inputs = Inputs(qkv, rows, keys)
    run = functools.partial(
        _attention, num_heads=num_heads, causal=causal, interpret=is_interpreted()
    )
    if not (axes := batch_split(batch).axes):
        return run(inputs)
    # The partitioner cannot split a kernel: each device runs it on its own rows.
    split = PartitionSpec(axes)
    return jax.shard_map(
        run, in_specs=split, out_specs=split, axis_names=set(axes), check_vma=False
    )(inputs)


def _vmem_bytes(qkv: Array) -> int:
    """Returns about what the backward pass of one example needs, the larger one."""
    _, length, width = qkv.shape
    # qkv, its gradient and that of the output come and go while the program works on
    # the example before.
    blocks = 2 * (2 * width + width // 3) * _round_up(length, 16) * qkv.dtype.itemsize
    # For v5e the compiler kept 8 to 15 matrices [N, N] in float32, and a tenth more in
    # all where heads of 72 cross registers (16 shapes tried).
    return blocks + 16 * 4 * _round_up(length, 8) * _round_up(length, LANES)


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _attention(inputs: Inputs, num_heads: int, causal: bool, interpret: bool) -> Array:
    options = dict(num_heads=num_heads, causal=causal)
    batch, length, width = inputs.qkv.shape
    out = jax.ShapeDtypeStruct((batch, length, width // 3), inputs.qkv.dtype)
    return _call(
        _attention_forward, (inputs,), out, options=options, interpret=interpret
    )


def _save_inputs(
    inputs: Inputs, num_heads: int, causal: bool, interpret: bool
) -> tuple[Array, Inputs]:
    return _attention(inputs, num_heads, causal, interpret), inputs


def _gradient(
    num_heads: int, causal: bool, interpret: bool, inputs: Inputs, gradient: Array
) -> tuple[Inputs]:
    options = dict(num_heads=num_heads, causal=causal)
    out = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs._replace(keys=None)
    )
    arrays = inputs, gradient
    return (
        _call(_attention_backward, arrays, out, options=options, interpret=interpret),
    )


_attention.defvjp(_save_inputs, _gradient)


def _call(
    kernel: Callable[..., None],
    inputs: tuple[Any, ...],
    out: Any,
    *,
    options: dict[str, Any],
    interpret: bool,
) -> Any:
    """Runs a kernel once for every example.

    Args:
      kernel: takes references to one example of every input and of the output.
      inputs: `Inputs` and other arrays, [B, rows, columns].
      out: their like, shapes and dtypes of what it writes.
      options: `num_heads` and `causal`, for the kernel.
      interpret: whether to run it as plain jax.
    """

    def one_example(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, *x.shape[1:]), lambda example: (example, 0, 0))

    return pl.pallas_call(
        functools.partial(kernel, **options),
        grid=(inputs[0].qkv.shape[0],),
        in_specs=jax.tree.map(one_example, inputs),
        out_specs=(jax.tree.map(one_example, out),),
        out_shape=(out,),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",),
            vmem_limit_bytes=VMEM_BYTES * 5 // 4,  # in case the estimate is too low
        ),
        cost_estimate=_cost(inputs, out, num_heads=options["num_heads"]),
        interpret=interpret,
        name=kernel.__name__.strip("_"),  # in profiles
    )(*inputs)[0]


def _cost(inputs: tuple[Any, ...], out: Any, *, num_heads: int) -> pl.CostEstimate:
    """Returns the cost of a kernel with these arrays, for the compiler's schedule."""
    batch, length, width = inputs[0].qkv.shape
    products = 2 if len(inputs) == 1 else 5  # of N x N x D: forward, backward
    arrays = jax.tree.leaves((inputs, out))
    return pl.CostEstimate(
        flops=2 * products * batch * length**2 * (width // 3),
        transcendentals=batch * length**2 * num_heads,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
    )


def _attention_forward(
    inputs: Inputs, out: Any, *, num_heads: int, causal: bool
) -> None:
    """Writes the output of one example; out: [1, N, D]."""
    length, width = out.shape[1:]
    size = width // num_heads
    allowed = _allowed(inputs.keys, length, causal=causal)
    for lanes in _groups(width, num_heads):
        queries, keys, values = (
            _heads(inputs, i * width, lanes, size) for i in range(3)
        )
        parts = []
        for query, key, value in zip(queries, keys, values, strict=True):
            weights = _weights(query * size**-0.5, key, allowed)
            parts.append(_product(weights.astype(value.dtype), value, (1, 0)))
        _store(out, 0, lanes, parts)


def _attention_backward(
    inputs: Inputs, gradient: Any, out: Inputs, *, num_heads: int, causal: bool
) -> None:
    """Writes the gradient by qkv and bias of one example; gradient: [1, N, D]."""
    length, width = gradient.shape[1:]
    size = width // num_heads
    scale = size**-0.5
    allowed = _allowed(inputs.keys, length, causal=causal)
    for lanes in _groups(width, num_heads):
        queries, keys, values = (
            _heads(inputs, i * width, lanes, size) for i in range(3)
        )
        gradients = _split(gradient[0, :, lanes], size)
        parts: tuple[list[Array], ...] = ([], [], [])
        for query, key, value, dy in zip(queries, keys, values, gradients, strict=True):
            query = query * scale
            with computed_again():
                weights = _weights(query, key, allowed)
            by_weights = _product(dy, value, (1, 1))
            along = jnp.sum(weights * by_weights, axis=-1, keepdims=True)
            by_logits = weights * (by_weights - along)
            if allowed is not None:
                # A row without any key has equal weights, but no gradient.
                by_logits = jnp.where(allowed, by_logits, 0)
            by_logits = by_logits.astype(key.dtype)
            parts[0].append(_product(by_logits, key, (1, 0)) * scale)
            parts[1].append(_product(by_logits, query, (0, 0)))
            parts[2].append(_product(weights.astype(dy.dtype), dy, (0, 0)))
        for i, part in enumerate(parts):
            _store(out.qkv, i * width, lanes, part)
            sums = [jnp.sum(x, axis=0, keepdims=True) for x in part]
            _store(out.bias, i * width, lanes, sums)


def _heads_together(num_heads: int, size: int) -> int:
    """Returns how many heads fill whole registers; all of them if there are too few."""
    together = math.lcm(LANES, size) // size
    return num_heads if num_heads % together else together


def _groups(width: int, num_heads: int) -> list[slice]:
    """Returns the lanes of the heads that are loaded and stored together."""
    step = _heads_together(num_heads, width // num_heads) * (width // num_heads)
    return [slice(first, first + step) for first in range(0, width, step)]


def _heads(inputs: Inputs, offset: int, lanes: slice, size: int) -> list[Array]:
    """Loads heads of one example and adds their bias; each [N, size]."""
    columns = slice(offset + lanes.start, offset + lanes.stop)
    x = inputs.qkv[0, :, columns]
    x = (x.astype(jnp.float32) + inputs.bias[0, :, columns]).astype(x.dtype)
    return _split(x, size)


def _split(x: Array, size: int) -> list[Array]:
    return [x[:, i : i + size] for i in range(0, x.shape[1], size)]


def _store(ref: Any, offset: int, lanes: slice, heads: list[Array]) -> None:
    x = jnp.concatenate(heads, axis=1).astype(ref.dtype)
    ref[0, :, offset + lanes.start : offset + lanes.stop] = x


def _allowed(keys: Any, length: int, *, causal: bool) -> Array | None:
    """Returns [N, N] or [1, N] bool, true where n attends to m; None for all."""
    allowed = None if keys is None else keys[0] != 0
    if causal:
        row = jax.lax.broadcasted_iota(jnp.int32, (length, length), 0)
        column = jax.lax.broadcasted_iota(jnp.int32, (length, length), 1)
        earlier = column <= row
        allowed = earlier if allowed is None else earlier & allowed
    return allowed


def _weights(query: Array, key: Array, allowed: Array | None) -> Array:
    """Returns [N, N] float32, the softmax over keys; query, key: [N, size]."""
    logits = _product(query, key, (1, 1))
    if allowed is not None:
        logits = jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights * (1 / weights.sum(axis=-1, keepdims=True))


def _product(left: Array, right: Array, axes: tuple[int, int]) -> Array:
    """Returns the sum over an axis of each of two matrices, in float32."""
    contracted = (axes[:1], axes[1:]), ((), ())
    return jax.lax.dot_general(
        left, right, contracted, preferred_element_type=jnp.float32
    )
