"""The sigmoid loss of all pairs in blocks (SigLIP, arXiv 2303.15343, section 3.3).

A pair needs no other: the losses of the blocks add up. The backward pass computes each
block again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.objectives.blockwise_losses.blocks import (
    SPLIT,
    WHOLE,
    Plan,
    Side,
    add_up,
    exchange,
    global_size,
    make_block,
    make_side,
    over_mesh,
    scan_columns,
    scan_gradients,
)
from clipin_jax.objectives.blockwise_losses.rankings import (
    Ranking,
    combine_rankings,
    pair_rankings,
    ranking_metrics,
    stack,
    start_ranking,
)
from clipin_jax.types import Array, Metrics


def blockwise_sigmoid(
    image: Array,
    text: Array,
    scale: Array,
    bias: Array,
    *,
    ids: dict[str, Array],
    plan: Plan,
) -> tuple[Array, Metrics]:
    """Returns `losses.sigmoid_contrastive` of `scale * image @ text.T + bias`.

    Args:
      image: [B, E] float.
      text: [B, E] float; row i belongs to image i.
      scale: scalar.
      bias: scalar.
      ids: [B] int32 each, from `duplicates.read_ids`.
      plan: from `make_plan`.

    Returns:
      Scalar, with a gradient by image, text, scale and bias; and the accuracy of both
      directions, and with ids the share of rows with a duplicate.
    """
    return _loss(image, text, scale, bias, ids, plan)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _loss(*arguments: Any) -> tuple[Array, Metrics]:
    return _forward(*arguments)[0]


def _forward(*arguments: Any) -> tuple[tuple[Array, Metrics], Any]:
    *arrays, plan = arguments
    forward = over_mesh(
        plan,
        functools.partial(_forward_share, plan),
        (SPLIT, SPLIT, WHOLE, WHOLE, SPLIT),
        (WHOLE, WHOLE),
    )
    return forward(*arrays), arrays


def _backward(
    plan: Plan, saved: Any, gradients: tuple[Array, Metrics]
) -> tuple[Array, Array, Array, Array, None]:
    # The accuracies are steps: their gradient is zero.
    backward = over_mesh(
        plan,
        functools.partial(_backward_share, plan),
        (SPLIT, SPLIT, WHOLE, WHOLE, SPLIT, WHOLE),
        (SPLIT, SPLIT, WHOLE, WHOLE),
    )
    return *backward(*saved, gradients[0]), None


_loss.defvjp(_forward, _backward)


def _forward_share(
    plan: Plan,
    image: Array,
    text: Array,
    scale: Array,
    bias: Array,
    ids: dict[str, Array],
) -> tuple[Array, Metrics]:
    """Returns the loss of the batch, and metrics."""
    rows, columns = make_side(plan, scale * image, ids), make_side(plan, text, ids)

    def step(
        known: tuple[Array, Ranking], columns: Side
    ) -> tuple[tuple[Array, Ranking], Ranking]:
        losses, ranking = known
        block = make_block(plan, rows, columns, bias)
        of_rows, of_columns = pair_rankings(block, rows, columns)
        wrong = jnp.where(block.positives, -block.logits, block.logits)
        losses = losses + jnp.sum(jax.nn.softplus(wrong), 1)
        ranking = stack(ranking, combine_rankings(of_rows, 1))
        known = losses, combine_rankings(ranking, 0)
        return known, combine_rankings(of_columns, 0)

    start = start_ranking(rows, jnp.promote_types(rows.embedding.dtype, jnp.float32))
    known = jnp.zeros_like(start.best), start
    (losses, of_rows), parts = scan_columns(plan, step, known, columns)
    of_columns = combine_rankings(exchange(plan, parts), 0)
    loss = add_up(plan, losses.sum()) / global_size(plan, len(image))
    return loss, ranking_metrics(plan, rows.index, of_rows, of_columns)


def _backward_share(
    plan: Plan,
    image: Array,
    text: Array,
    scale: Array,
    bias: Array,
    ids: dict[str, Array],
    gradient: Array,
) -> tuple[Array, Array, Array, Array]:
    """Returns the gradient by the images and texts of this device, scale and bias."""
    rows, columns = make_side(plan, scale * image, ids), make_side(plan, text, ids)

    def step(
        known: tuple[Array, Array], columns: Side
    ) -> tuple[tuple[Array, Array], Array]:
        by_rows, by_bias = known
        block = make_block(plan, rows, columns, bias)
        by_logits = jnp.where(
            block.positives,
            -jax.nn.sigmoid(-block.logits),
            jax.nn.sigmoid(block.logits),
        )
        by_rows = by_rows + by_logits @ columns.embedding
        known = by_rows, by_bias + by_logits.sum(1)
        return known, by_logits.T @ rows.embedding

    dtype = jnp.promote_types(image.dtype, jnp.float32)
    known = jnp.zeros(image.shape, dtype), jnp.zeros(image.shape[:1], dtype)
    (by_rows, by_bias), by_columns = scan_gradients(plan, step, known, columns)
    factor = gradient / global_size(plan, len(image))
    # The sum over pairs of gradient times cosine, without another pass over the pairs.
    by_scale, by_bias = add_up(plan, (jnp.sum(by_rows * image), by_bias.sum()))
    return (
        (factor * scale * by_rows).astype(image.dtype),
        (factor * by_columns).astype(text.dtype),
        (factor * by_scale).astype(scale.dtype),
        (factor * by_bias).astype(bias.dtype),
    )
