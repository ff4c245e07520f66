"""Visits the logits over a vocabulary a few positions at a time, never all at once.

A tower may leave the product with its vocabulary to the objective, as factors. Then a
device computes the logits of some positions of its texts, what the loss needs of them,
and forgets them; the backward pass computes them again.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.models.layers import LogitFactors, at_least_float32, batch_split
from clipin_jax.types import Array

Logits = Array | LogitFactors
_HELD_BYTES = 256 * 2**20  # most for the logits of a device, with `positions` of 0
_FLOAT = 4  # bytes


def read_logits(
    tower: Any, method: str, arguments: Sequence[Any], positions: int = 0
) -> Logits:
    """Returns logits of a tower, [B, L, V], or their factors to visit them in parts.

    Args:
      tower: with the method, and perhaps one named `{method}_factors`; see
        `models.base.FactoredDecodingTower`.
      method: that returns logits.
      arguments: of both methods.
      positions: see `map_positions`.
    """
    factored = f"{method}_factors"
    if not hasattr(type(tower), factored):
        return getattr(tower, method)(*arguments)
    factors = getattr(tower, factored)(*arguments)
    in_parts = _chunk_size(factors, positions) < factors.states.shape[1]
    return factors if in_parts else factors.logits()


def map_positions(
    function: Callable[..., Any],
    logits: Sequence[Logits],
    arrays: Sequence[Array],
    positions: int = 0,
) -> Any:
    """Applies a function of logits to every position, a number of them at a time.

    Args:
      function: `(*logits, *arrays) -> tree`, from [..., V] and [...] to a tree of
        [...], each place by itself.
      logits: of [B, L, V] each, from `read_logits`. All positions are visited at once
        where some of them are no factors.
      arrays: [B, L] each.
      positions: at a time; 0 for all while their logits on a device have at most
        256 MiB, else for as many as have that, and for at least one.

    Returns:
      The tree of [B, L].
    """
    factors = [x for x in logits if isinstance(x, LogitFactors)]
    if len(factors) == len(logits):
        size = min(_chunk_size(x, positions) for x in factors)
        return _map_chunks(function, factors, arrays, size)
    whole = [x.logits() if isinstance(x, LogitFactors) else x for x in logits]
    return function(*whole, *arrays)


def _chunk_size(factors: LogitFactors, positions: int) -> int:
    """Returns how many positions are visited at a time, L for all at once."""
    batch, length = factors.states.shape[:2]
    held = batch // batch_split(batch).devices * factors.table.shape[-1] * _FLOAT
    chunks = math.ceil(length / (positions or max(1, _HELD_BYTES // held)))
    return math.ceil(length / chunks)  # equal chunks: the last one has little padding


def _map_chunks(
    function: Callable[..., Any],
    factors: Sequence[LogitFactors],
    arrays: Sequence[Array],
    size: int,
) -> Any:
    """Returns what `map_positions` does, for chunks of some positions."""
    batch, length = arrays[0].shape

    def visit(tables: Any, *of_positions: Any) -> Any:
        # Their gradient is a sum over chunks, too many for half precision.
        tables = jax.tree.map(lambda x: x.astype(at_least_float32(x.dtype)), tables)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def visit_chunk(chunk: Any) -> Any:
            states, arrays = chunk
            pairs = zip(states, tables, strict=True)
            logits = [LogitFactors(x, *table).logits() for x, table in pairs]
            return function(*logits, *arrays)

        results = jax.lax.map(visit_chunk, _split(of_positions, size))
        return jax.tree.map(lambda x: _join(x, length), results)

    if axes := batch_split(batch).axes:
        # On each device by itself: the partitioner would add up the gradient of the
        # table over all devices once for each chunk.
        whole, split = PartitionSpec(), PartitionSpec(axes)
        inputs = (whole, split, split)
        visit = jax.shard_map(visit, in_specs=inputs, out_specs=split, check_vma=False)
    states = [x.states for x in factors]
    return visit([(x.table, x.bias) for x in factors], states, list(arrays))


def _split(tree: Any, size: int) -> Any:
    """Returns arrays [b, L, ...] as chunks of positions, [chunks, size, b, ...]."""

    def split(x: Array) -> Array:
        x = jnp.swapaxes(x, 0, 1)
        x = jnp.pad(x, [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(split, tree)


def _join(x: Array, length: int) -> Array:
    """Returns [b, L] of chunks [chunks, size, b], without the padding."""
    return jnp.swapaxes(x.reshape(-1, x.shape[-1])[:length], 0, 1)
