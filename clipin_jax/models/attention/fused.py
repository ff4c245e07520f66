"""Self-attention of short sequences in one kernel for TPUs, without [N, N] in memory.

The kernel reads the fused query-key-value matrix as the linear layer leaves it: nothing
is split or transposed in the device's memory. A program holds the rows of one example
in VMEM whole, so the softmax is an ordinary one. The backward pass computes the weights
again and saves nothing but the input.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

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


def fits(qkv: Array) -> bool:
    """Whether the kernel takes an input of this shape and dtype, on this mesh.

    In bfloat16 it takes up to about 340 tokens of width 768, 257 of width 1280.

    Args:
      qkv: [B, N, 3 D].
    """
    if qkv.dtype not in DTYPES or qkv.shape[0] % mesh_split().devices:
        return False
    return _vmem_bytes(qkv) <= VMEM_BYTES


def fused_attention(qkv: Array, num_heads: int, *, causal: bool) -> Array:
    """Computes multi-head self-attention, with the softmax in float32.

    Args:
      qkv: [B, N, 3 D], queries, keys and values side by side, each with its heads side
        by side; see `fits`.
      num_heads: divides D.
      causal: whether position n attends only to positions up to n.

    Returns:
      [B, N, D].
    """
    run = functools.partial(
        _attention, num_heads=num_heads, causal=causal, interpret=is_interpreted()
    )
    if not (axes := batch_split(qkv.shape[0]).axes):
        return run(qkv)
    # The partitioner cannot split a kernel: each device runs it on its own rows.
    split = PartitionSpec(axes)
    return jax.shard_map(
        run, in_specs=split, out_specs=split, axis_names=set(axes), check_vma=False
    )(qkv)


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
def _attention(qkv: Array, num_heads: int, causal: bool, interpret: bool) -> Array:
    options = dict(num_heads=num_heads, causal=causal)
    width = qkv.shape[2] // 3
    return _call(_attention_forward, width, qkv, options=options, interpret=interpret)


def _save_input(
    qkv: Array, num_heads: int, causal: bool, interpret: bool
) -> tuple[Array, Array]:
    return _attention(qkv, num_heads, causal, interpret), qkv


def _gradient(
    num_heads: int, causal: bool, interpret: bool, qkv: Array, gradient: Array
) -> tuple[Array]:
    options, inputs = dict(num_heads=num_heads, causal=causal), (qkv, gradient)
    width = qkv.shape[2]
    return (
        _call(
            _attention_backward, width, *inputs, options=options, interpret=interpret
        ),
    )


_attention.defvjp(_save_input, _gradient)


def _call(
    kernel: Callable[..., None],
    width: int,
    *inputs: Array,
    options: dict[str, Any],
    interpret: bool,
) -> Array:
    """Runs a kernel once for every example.

    Args:
      kernel: takes references to one example of every input and of the output.
      width: of the output [B, N, width].
      inputs: [B, N, any width], the first is qkv.
      options: `num_heads` and `causal`, for the kernel.
      interpret: whether to run it as plain jax.
    """
    batch, length, _ = inputs[0].shape
    out = jax.ShapeDtypeStruct((batch, length, width), inputs[0].dtype)

    def one_example(width: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, length, width), lambda example: (example, 0, 0))

    return pl.pallas_call(
        functools.partial(kernel, **options),
        grid=(batch,),
        in_specs=[one_example(x.shape[2]) for x in inputs],
        out_specs=one_example(width),
        out_shape=out,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",),
            vmem_limit_bytes=VMEM_BYTES * 5 // 4,  # in case the estimate is too low
        ),
        cost_estimate=_cost(*inputs, out, num_heads=options["num_heads"]),
        interpret=interpret,
        name=kernel.__name__.strip("_"),  # in profiles
    )(*inputs)


def _cost(qkv: Any, *others: Any, num_heads: int) -> pl.CostEstimate:
    """Returns the cost of a kernel with these arrays, for the compiler's schedule."""
    batch, length, width = qkv.shape
    products = 2 if len(others) == 1 else 5  # of N x N x D: forward, backward
    return pl.CostEstimate(
        flops=2 * products * batch * length**2 * (width // 3),
        transcendentals=batch * length**2 * num_heads,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in (qkv, *others)),
    )


def _attention_forward(qkv: Any, out: Any, *, num_heads: int, causal: bool) -> None:
    """Writes the output of one example; qkv: [1, N, 3 D]; out: [1, N, D]."""
    length, width = out.shape[1:]
    size = width // num_heads
    allowed = _lower_triangle(length) if causal else None
    for lanes in _groups(width, num_heads):
        queries, keys, values = (_heads(qkv, i * width, lanes, size) for i in range(3))
        parts = []
        for query, key, value in zip(queries, keys, values, strict=True):
            weights = _weights(query * size**-0.5, key, allowed)
            parts.append(_product(weights.astype(value.dtype), value, (1, 0)))
        _store(out, 0, lanes, parts)


def _attention_backward(
    qkv: Any, gradient: Any, out: Any, *, num_heads: int, causal: bool
) -> None:
    """Writes the gradient by qkv of one example: [1, N, 3 D]; gradient: [1, N, D]."""
    length, width = gradient.shape[1:]
    size = width // num_heads
    scale = size**-0.5
    allowed = _lower_triangle(length) if causal else None
    for lanes in _groups(width, num_heads):
        queries, keys, values = (_heads(qkv, i * width, lanes, size) for i in range(3))
        gradients = _heads(gradient, 0, lanes, size)
        parts: tuple[list[Array], ...] = ([], [], [])
        for query, key, value, dy in zip(queries, keys, values, gradients, strict=True):
            query = query * scale
            with computed_again():
                weights = _weights(query, key, allowed)
            by_weights = _product(dy, value, (1, 1))
            along = jnp.sum(weights * by_weights, axis=-1, keepdims=True)
            by_logits = (weights * (by_weights - along)).astype(key.dtype)
            parts[0].append(_product(by_logits, key, (1, 0)) * scale)
            parts[1].append(_product(by_logits, query, (0, 0)))
            parts[2].append(_product(weights.astype(dy.dtype), dy, (0, 0)))
        for i, part in enumerate(parts):
            _store(out, i * width, lanes, part)


def _heads_together(num_heads: int, size: int) -> int:
    """Returns how many heads fill whole registers; all of them if there are too few."""
    together = math.lcm(LANES, size) // size
    return num_heads if num_heads % together else together


def _groups(width: int, num_heads: int) -> list[slice]:
    """Returns the lanes of the heads that are loaded and stored together."""
    step = _heads_together(num_heads, width // num_heads) * (width // num_heads)
    return [slice(first, first + step) for first in range(0, width, step)]


def _heads(ref: Any, offset: int, lanes: slice, size: int) -> list[Array]:
    """Loads heads of one example, each [N, size]."""
    x = ref[0, :, offset + lanes.start : offset + lanes.stop]
    return [x[:, i : i + size] for i in range(0, x.shape[1], size)]


def _store(ref: Any, offset: int, lanes: slice, heads: list[Array]) -> None:
    x = jnp.concatenate(heads, axis=1).astype(ref.dtype)
    ref[0, :, offset + lanes.start : offset + lanes.stop] = x


def _lower_triangle(length: int) -> Array:
    row = jax.lax.broadcasted_iota(jnp.int32, (length, length), 0)
    column = jax.lax.broadcasted_iota(jnp.int32, (length, length), 1)
    return column <= row


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
