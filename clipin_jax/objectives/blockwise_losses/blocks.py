"""Visits the logits of a batch block by block, on one device or on all of a mesh.

An image is a row of the logits, a text a column. A device keeps its rows. The columns
come to it in blocks, and it forgets the logits of a block before the next one:

- `chunked`: a device gathers the texts, and takes a number of columns at a time;
- `ring`: the texts of a device are a block, which travels round the devices, as in
  the sigmoid loss of SigLIP (arXiv 2303.15343, section 3.3). No device holds more than
  its own texts and those of another.

The functions with a `plan` run on a device, inside of `over_mesh`. There, b is B over
the number of devices n.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.errors import check_choice
from clipin_jax.objectives.base import ObjectiveModule
from clipin_jax.objectives.duplicates import MULTI_POSITIVE, share_an_id
from clipin_jax.objectives.losses import mask_logits
from clipin_jax.types import Array

AUTO, DENSE, CHUNKED, RING = IMPLS = ("auto", "dense", "chunked", "ring")
SPLIT, WHOLE = "split", "whole"  # how a mesh holds an argument or a result
_DENSE_BYTES = 64 * 2**20  # most for the logits of a device, with `auto`
_CHUNK_BYTES = 32 * 2**20  # most for the logits of a chunk
_FLOAT = 4  # bytes


class Plan(NamedTuple):
    """How the pairs of a batch are visited, and what they are.

    Attributes:
      impl: `chunked` or `ring`.
      axes: of the mesh, which all split the batch; none on one device.
      duplicates: a choice of `objectives.duplicates`.
    """

    impl: str
    axes: tuple[str, ...]
    duplicates: str


class Side(NamedTuple):
    """The images of some rows, or the texts of some columns.

    Attributes:
      embedding: [b, E] float.
      index: [b] int32, the place in the batch.
      ids: [b] int32 each, from `duplicates.read_ids`.
    """

    embedding: Array
    index: Array
    ids: dict[str, Array]


class Block(NamedTuple):
    """Some rows against some columns, [b, c] each.

    Attributes:
      logits: of the loss; masked where a pair does not count.
      ranked: logits of the accuracies, masked where a pair is a duplicate.
      positives: bool, the pairs of the batch, and what counts as one.
      duplicates: bool; None without ids.
    """

    logits: Array
    ranked: Array
    positives: Array
    duplicates: Array | None


def check_impl(objective: ObjectiveModule, impl: str) -> None:
    """Checks the option `impl` of an objective.

    Raises:
      ClipinError: it is not one of the choices.
    """
    check_choice(f"{objective.config_key}.impl", impl, IMPLS)


def make_plan(impl: str, batch_size: int, duplicates: str) -> Plan | None:
    """Returns how to visit the pairs of a batch; None to hold all logits.

    `auto` holds them while those of a device have at most 64 MiB. A ring of one device
    is `chunked`.

    Args:
      impl: one of `IMPLS`.
      batch_size: B.
      duplicates: a choice of `objectives.duplicates`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    # Initialisation and evaluation may have a batch that the devices do not divide.
    split = bool(mesh.axis_names) and mesh.size > 1 and batch_size % mesh.size == 0
    if impl == AUTO:
        held = batch_size**2 * _FLOAT // (mesh.size if split else 1)
        impl = DENSE if held <= _DENSE_BYTES else RING
    if impl == DENSE:
        return None
    axes = tuple(mesh.axis_names) if split else ()
    return Plan(impl if split else CHUNKED, axes, duplicates)


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


def make_side(plan: Plan, embedding: Array, ids: dict[str, Array]) -> Side:
    """Returns the rows or the columns of this device."""
    rows = embedding.shape[0]
    start = jax.lax.axis_index(plan.axes) * rows if plan.axes else 0
    return Side(embedding, start + jnp.arange(rows, dtype=jnp.int32), ids)


def global_size(plan: Plan, rows: int) -> int:
    """Returns B for a number of rows on this device."""
    return rows * _devices(plan)


def add_up(plan: Plan, values: Any) -> Any:
    """Returns the sums over all devices of a tree of arrays."""
    return jax.lax.psum(values, plan.axes) if plan.axes else values


def make_block(
    plan: Plan, rows: Side, columns: Side, bias: Array | None = None
) -> Block:
    """Returns the logits of some rows and columns, and what their pairs are.

    Args:
      plan: of the batch.
      rows: whose embeddings have the scale of the logits.
      columns: of any device.
      bias: added to the logits.
    """
    wide = jnp.promote_types(rows.embedding.dtype, jnp.float32)
    logits = jnp.einsum(
        "ie,je->ij", rows.embedding, columns.embedding, preferred_element_type=wide
    )
    logits = logits if bias is None else logits + bias
    pairs = rows.index[:, None] == columns.index
    if not rows.ids:
        return Block(logits, logits, pairs, None)
    duplicates = share_an_id(rows.ids, columns.ids) & ~pairs
    ranked = mask_logits(logits, duplicates)
    if plan.duplicates == MULTI_POSITIVE:
        return Block(logits, ranked, pairs | duplicates, duplicates)
    return Block(ranked, ranked, pairs, duplicates)


def scan_columns(
    plan: Plan, step: Callable[[Any, Any], tuple[Any, Any]], rows: Any, columns: Any
) -> tuple[Any, Any]:
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

    def turn(state: Any, _: None) -> tuple[Any, Any]:
        rows, columns = state
        sent = _send(plan, columns)  # does not wait for the step
        rows, results = step(rows, columns)
        return (rows, sent), results

    (rows, _), results = jax.lax.scan(turn, (rows, columns), length=devices)
    # The columns of device d were here in turn (here - d) modulo n.
    turns = (jax.lax.axis_index(plan.axes) - jnp.arange(devices)) % devices
    return rows, jax.tree.map(lambda x: x[turns], results)


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

    def turn(state: Any, _: None) -> tuple[Any, None]:
        rows, columns, gradient = state
        sent = _send(plan, columns)
        rows, part = step(rows, columns)
        return (rows, sent, _send(plan, gradient + part)), None

    start = jnp.zeros_like(jax.eval_shape(step, rows, columns)[1])
    state = rows, columns, start
    (rows, _, gradient), _ = jax.lax.scan(turn, state, length=_devices(plan))
    return rows, gradient


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


def _devices(plan: Plan) -> int:
    return jax.lax.axis_size(plan.axes) if plan.axes else 1


def _send(plan: Plan, tree: Any) -> Any:
    """Sends arrays to the next device of the ring, and returns those of the last."""
    devices = _devices(plan)
    ring = [(device, (device + 1) % devices) for device in range(devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, plan.axes, ring), tree)


def _chunks(plan: Plan, columns: Any) -> Any:
    """Returns the columns of all devices in equal chunks, [chunks, c, ...] each."""
    rows = jax.tree.leaves(columns)[0].shape[0]
    size = global_size(plan, rows)
    most = max(1, _CHUNK_BYTES // (rows * _FLOAT))
    chunks = next(n for n in range(1, size + 1) if size % n == 0 and size // n <= most)
    if plan.axes:
        columns = jax.lax.all_gather(columns, plan.axes, tiled=True)
    return jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), columns)


def _joined(x: Array, devices: int) -> Array:
    """Returns [n, b, ...] of [chunks, c, ...]."""
    return x.reshape(devices, -1, *x.shape[2:])
