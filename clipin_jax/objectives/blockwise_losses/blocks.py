"""Visits the columns of all devices block by block, and exchanges what that gives.

The functions run on a device, inside of `over_mesh`; see `pairs.py` for both ways.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.objectives.blockwise_losses.pairs import CHUNKED, Pairs, Plan
from clipin_jax.types import Array

Step = Callable[[Any, Any], tuple[Any, Any]]
GradientStep = Callable[[Any, Any, Array], tuple[Any, Array]]
SPLIT, WHOLE = "split", "whole"  # how a mesh holds an argument or a result
PAIRS = Pairs._make([SPLIT, SPLIT, WHOLE, SPLIT, WHOLE])  # likewise, for each field
_CHUNK_COLUMNS = 1024  # most of a chunk; more make no product of matrices faster
_CHUNK_LOGITS = 8 * 2**20  # most of a chunk: 32 MiB of float32


def over_mesh(
    plan: Plan, function: Callable[..., Any], inputs: Any, outputs: Any
) -> Callable[..., Any]:
    """Returns a function of the batch that runs on every device with its share.

    Args:
      plan: of the batch.
      function: of the share of a device.
      inputs, outputs: `SPLIT` or `WHOLE` for each argument, and for each result.
    """
    if not plan.axes:
        return function
    specs = {SPLIT: PartitionSpec(plan.axes), WHOLE: PartitionSpec()}
    inputs, outputs = jax.tree.map(specs.__getitem__, (inputs, outputs))
    return jax.shard_map(function, in_specs=inputs, out_specs=outputs, check_vma=False)


def scan_columns(plan: Plan, step: Step, rows: Any, columns: Any) -> tuple[Any, Any]:
    """Visits the columns of all devices.

    Args:
      plan: of the batch.
      step: `(rows, columns) -> (rows, results)`, with arrays of some columns.
      rows: what the first step gets, and each one hands on.
      columns: arrays of the columns of this device, [b, ...] each.

    Returns:
      What the last step handed on, and the results for the columns of each device,
      [n, b, ...].
    """
    devices = _devices(plan)
    if plan.impl == CHUNKED:
        rows, results = jax.lax.scan(step, rows, _chunks(plan, columns))
        return rows, jax.tree.map(lambda x: _joined(x, devices), results)

    visit, rings = step, _rings(plan)
    for axes in rings:
        visit = _round(axes, visit)
    rows, results = visit(rows, columns)
    place = len(rings)  # of the axis [b] in the results: one for each ring before it
    return rows, jax.tree.map(lambda x: x.reshape(devices, *x.shape[place:]), results)


def scan_gradients(
    plan: Plan, step: Callable[[Any, Any], tuple[Any, Array]], rows: Any, columns: Any
) -> tuple[Any, Array]:
    """Visits the columns of all devices, and adds up their gradients on their device.

    Args:
      plan: of the batch.
      step: `(rows, columns) -> (rows, gradient)`, the gradient [c, E] of some columns.
      rows: what the first step gets, and each one hands on.
      columns: arrays of the columns of this device, [b, ...] each.

    Returns:
      What the last step handed on, and the gradient of the columns of this device,
      [b, E].
    """
    if plan.impl == CHUNKED:
        rows, parts = jax.lax.scan(step, rows, _chunks(plan, columns))
        gradient = parts.reshape(-1, parts.shape[-1])
        if plan.axes:
            gradient = jax.lax.psum_scatter(gradient, plan.axes, tiled=True)
        return rows, gradient

    def add(rows: Any, columns: Any, gradient: Array) -> tuple[Any, Array]:
        rows, part = step(rows, columns)
        return rows, gradient + part

    visit: GradientStep = add
    start = jnp.zeros_like(jax.eval_shape(step, rows, columns)[1])
    for axes in _rings(plan):
        visit = _round_with_gradient(axes, visit)
    return visit(rows, columns, start)


def exchange(plan: Plan, results: Any) -> Any:
    """Sends results for the columns of each device to it, as `scan_columns` has them.

    Args:
      plan: of the batch.
      results: arrays [n, b, ...]: of this device for the columns of all.

    Returns:
      Arrays [n, b, ...]: of all devices for the columns of this one.
    """
    if not plan.axes:
        return results
    return jax.tree.map(
        lambda x: jax.lax.all_to_all(x, plan.axes, 0, 0, tiled=True), results
    )


def add_up(plan: Plan, values: Any) -> Any:
    """Returns the sums over all devices of a tree of arrays."""
    return jax.lax.psum(values, plan.axes) if plan.axes else values


def global_size(plan: Plan, rows: int) -> int:
    """Returns B for a number of rows on this device."""
    return rows * _devices(plan)


def make_gradient(
    plan: Plan, pairs: Pairs, *, factor: Array, by_rows: Array, by_columns: Array
) -> Pairs:
    """Returns the gradient by image, text and scale; without one by ids and bias.

    Args:
      plan: of the batch.
      pairs: of this device.
      factor: of all gradients.
      by_rows: [b, E], the gradient by the logits, times the texts.
      by_columns: [b, E], the gradient by the texts.
    """
    # The sum over all logits of gradient times cosine, without a pass over them.
    by_scale = add_up(plan, jnp.sum(by_rows * pairs.image))
    image, text, scale = (
        (factor * gradient).astype(array.dtype)
        for gradient, array in (
            (pairs.scale * by_rows, pairs.image),
            (by_columns, pairs.text),
            (by_scale, pairs.scale),
        )
    )
    return Pairs(image, text, scale, ids=None)


def _devices(plan: Plan) -> int:
    return jax.lax.axis_size(plan.axes) if plan.axes else 1


def _rings(plan: Plan) -> list[tuple[str, ...]]:
    """Returns the axes of each ring, the inner one first.

    The outermost axis of a mesh is its slowest, such as the network between slices. So
    columns go round a slice, then all of them at once to the next slice: they have a
    whole round of time to arrive there.
    """
    outer, inner = plan.axes[:1], plan.axes[1:]
    rings = [axes for axes in (inner, outer) if axes]
    return [axes for axes in rings if jax.lax.axis_size(axes) > 1]


def _round(axes: tuple[str, ...], step: Step) -> Step:
    """Returns a step that visits the columns of all devices of a ring.

    Args:
      axes: of the ring.
      step: `(rows, columns) -> (rows, results)`.

    Returns:
      The same, with the results for the columns of device d of the ring at [d].
    """

    def visit(rows: Any, columns: Any) -> tuple[Any, Any]:
        def turn(state: Any, _: None) -> tuple[Any, Any]:
            rows, columns = state
            sent = _send(axes, columns)  # does not wait for the step
            rows, results = step(rows, columns)
            return (rows, sent), results

        devices = jax.lax.axis_size(axes)
        (rows, _), results = jax.lax.scan(turn, (rows, columns), length=devices)
        # The columns of device d were here in turn (here - d) modulo n.
        turns = (jax.lax.axis_index(axes) - jnp.arange(devices)) % devices
        return rows, jax.tree.map(lambda x: x[turns], results)

    return visit


def _round_with_gradient(axes: tuple[str, ...], step: GradientStep) -> GradientStep:
    """Returns a step that visits the columns of all devices of a ring.

    Args:
      axes: of the ring.
      step: `(rows, columns, gradient) -> (rows, gradient)`, which adds to the gradient
        of the columns, with which that travels.
    """

    def visit(rows: Any, columns: Any, gradient: Array) -> tuple[Any, Array]:
        def turn(state: Any, _: None) -> tuple[Any, None]:
            rows, columns, gradient = state
            sent = _send(axes, columns)
            rows, gradient = step(rows, columns, gradient)
            return (rows, sent, _send(axes, gradient)), None

        state, devices = (rows, columns, gradient), jax.lax.axis_size(axes)
        (rows, _, gradient), _ = jax.lax.scan(turn, state, length=devices)
        return rows, gradient

    return visit


def _send(axes: tuple[str, ...], tree: Any) -> Any:
    """Sends arrays to the next device of a ring, and returns those of the last."""
    devices = jax.lax.axis_size(axes)
    ring = [(device, (device + 1) % devices) for device in range(devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, ring), tree)


def _chunks(plan: Plan, columns: Any) -> Any:
    """Returns the columns of all devices in equal chunks, [chunks, c, ...] each."""
    rows = jax.tree.leaves(columns)[0].shape[0]
    size = global_size(plan, rows)
    most = max(1, min(_CHUNK_COLUMNS, _CHUNK_LOGITS // rows))
    chunks = next(n for n in range(1, size + 1) if size % n == 0 and size // n <= most)
    if plan.axes:
        columns = jax.lax.all_gather(columns, plan.axes, tiled=True)
    return jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), columns)


def _joined(x: Array, devices: int) -> Array:
    """Returns [n, b, ...] of [chunks, c, ...]."""
    return x.reshape(devices, -1, *x.shape[2:])
