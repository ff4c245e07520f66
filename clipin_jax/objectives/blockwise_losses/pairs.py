"""The pairs of a batch: how their logits are visited, and those of some of them.

An image is a row of the logits, a text a column. A device keeps its rows. The columns
come to it in blocks, and it forgets the logits of a block before the next one:

- `chunked`: a device gathers the texts, and takes a number of columns at a time;
- `ring`: the texts of a device are a block, which travels round the devices, as in
  the sigmoid loss of SigLIP (arXiv 2303.15343, section 3.3). No device holds more than
  its own texts and those of another. On several slices it goes round a slice, then on
  to the next one.

In this folder, n is the number of devices, and b is B over n.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.errors import check_choice
from clipin_jax.models.layers import at_least_float32, batch_split
from clipin_jax.objectives.base import ObjectiveModule
from clipin_jax.objectives.duplicates import MULTI_POSITIVE, share_an_id
from clipin_jax.objectives.losses import mask_logits
from clipin_jax.types import Array

AUTO, DENSE, CHUNKED, RING = IMPLS = ("auto", "dense", "chunked", "ring")
_DENSE_BYTES = 64 * 2**20  # most for the logits of a device, with `auto`
_FLOAT = 4  # bytes


class Plan(NamedTuple):
    """How the logits of a batch are visited, and how its pairs are labelled.

    Attributes:
      impl: `chunked` or `ring`.
      axes: of the mesh, which all split the batch; none on one device.
      duplicates: a choice of `objectives.duplicates`.
      label_smoothing: share of the label that is uniform over all candidates that are
        not masked.
    """

    impl: str
    axes: tuple[str, ...]
    duplicates: str
    label_smoothing: float


class Pairs(NamedTuple):
    """The pairs of a batch, or of a device, whose logits are scale * image @ text.T.

    Attributes:
      image: [b, E] float.
      text: [b, E] float; row i belongs to image i.
      scale: scalar.
      ids: [b] int32 each, from `duplicates.read_ids`; None or {} for none.
      bias: scalar, added to the logits; None for none.
    """

    image: Array
    text: Array
    scale: Array
    ids: dict[str, Array] | None
    bias: Array | None = None


class Side(NamedTuple):
    """The images of some rows, or the texts of some columns.

    Attributes:
      embedding: [b, E] float.
      index: [b] int32, the place in the batch.
      ids: [b] int32 each, or none, see `Pairs`.
    """

    embedding: Array
    index: Array
    ids: dict[str, Array] | None


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


def make_plan(
    impl: str, batch_size: int, duplicates: str, label_smoothing: float = 0.0
) -> Plan | None:
    """Returns how to visit the pairs of a batch; None to hold all logits.

    `auto` holds them while those of a device have at most 64 MiB. A ring of one device
    is `chunked`.

    Args:
      impl: one of `IMPLS`.
      batch_size: B.
      duplicates, label_smoothing: see `Plan`.
    """
    axes, devices = batch_split(batch_size)
    if impl == AUTO:
        held = batch_size**2 * _FLOAT // devices
        impl = DENSE if held <= _DENSE_BYTES else RING
    if impl == DENSE:
        return None
    impl = impl if axes else CHUNKED
    return Plan(impl, axes, duplicates, label_smoothing)


def make_sides(plan: Plan, pairs: Pairs) -> tuple[Side, Side]:
    """Returns the rows and the columns of this device; the rows have the scale."""
    size = pairs.image.shape[0]
    start = jax.lax.axis_index(plan.axes) * size if plan.axes else 0
    index = start + jnp.arange(size, dtype=jnp.int32)
    return (
        Side(pairs.scale * pairs.image, index, pairs.ids),
        Side(pairs.text, index, pairs.ids),
    )


def make_block(
    plan: Plan, rows: Side, columns: Side, bias: Array | None = None
) -> Block:
    """Returns the logits of some rows and columns, and what their pairs are.

    Args:
      plan: of the batch.
      rows: from `make_sides`.
      columns: of any device.
      bias: of the pairs.
    """
    wide = at_least_float32(rows.embedding.dtype)
    logits = jnp.einsum(
        "ie,je->ij", rows.embedding, columns.embedding, preferred_element_type=wide
    )
    logits = logits if bias is None else logits + bias
    pairs = rows.index[:, None] == columns.index
    if not (rows.ids and columns.ids):
        return Block(logits, logits, pairs, None)
    duplicates = share_an_id(rows.ids, columns.ids) & ~pairs
    ranked = mask_logits(logits, duplicates)
    if plan.duplicates == MULTI_POSITIVE:
        return Block(logits, ranked, pairs | duplicates, duplicates)
    return Block(ranked, ranked, pairs, duplicates)
