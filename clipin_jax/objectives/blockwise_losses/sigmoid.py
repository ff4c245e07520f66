"""The sigmoid loss of all pairs in blocks (SigLIP, arXiv 2303.15343, section 3.3).

A pair needs no other: the losses of the blocks add up. The backward pass computes each
block again.
"""

import functools

import jax
import jax.numpy as jnp

from clipin_jax.models.layers import at_least_float32
from clipin_jax.models.remat import computed_again
from clipin_jax.objectives.blockwise_losses.blocks import (
    PAIRS,
    WHOLE,
    add_up,
    exchange,
    global_size,
    make_gradient,
    over_mesh,
    scan_columns,
    scan_gradients,
)
from clipin_jax.objectives.blockwise_losses.pairs import (
    Pairs,
    Plan,
    Side,
    make_block,
    make_sides,
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


def blockwise_sigmoid(pairs: Pairs, plan: Plan) -> tuple[Array, Metrics]:
    """Returns `losses.sigmoid_contrastive` of the logits of all pairs, in blocks.

    Args:
      pairs: of the batch, with a bias.
      plan: from `make_plan`.

    Returns:
      Scalar, with a gradient by image, text, scale and bias; and the accuracy of both
      directions, and with ids the share of rows with a duplicate.
    """
    return _loss(pairs, plan)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _loss(pairs: Pairs, plan: Plan) -> tuple[Array, Metrics]:
    return _forward(pairs, plan)[0]


def _forward(pairs: Pairs, plan: Plan) -> tuple[tuple[Array, Metrics], Pairs]:
    share = functools.partial(_forward_share, plan)
    return over_mesh(plan, share, (PAIRS,), (WHOLE, WHOLE))(pairs), pairs


def _backward(
    plan: Plan, pairs: Pairs, gradients: tuple[Array, Metrics]
) -> tuple[Pairs]:
    share = functools.partial(_backward_share, plan)
    # The accuracies are steps: their gradient is zero.
    return (over_mesh(plan, share, (PAIRS, WHOLE), PAIRS)(pairs, gradients[0]),)


_loss.defvjp(_forward, _backward)


def _forward_share(plan: Plan, pairs: Pairs) -> tuple[Array, Metrics]:
    """Returns the loss of the batch, and metrics."""
    rows, columns = make_sides(plan, pairs)

    def step(
        known: tuple[Array, Ranking], columns: Side
    ) -> tuple[tuple[Array, Ranking], Ranking]:
        losses, ranking = known
        block = make_block(plan, rows, columns, pairs.bias)
        of_rows, of_columns = pair_rankings(block, rows, columns)
        wrong = jnp.where(block.positives, -block.logits, block.logits)
        losses = losses + jnp.sum(jax.nn.softplus(wrong), 1)
        ranking = stack(ranking, combine_rankings(of_rows, 1))
        known = losses, combine_rankings(ranking, 0)
        return known, combine_rankings(of_columns, 0)

    start = start_ranking(rows, at_least_float32(rows.embedding.dtype))
    known = jnp.zeros_like(start.best), start
    (losses, of_rows), parts = scan_columns(plan, step, known, columns)
    of_columns = combine_rankings(exchange(plan, parts), 0)
    loss = add_up(plan, losses.sum()) / global_size(plan, len(pairs.image))
    return loss, ranking_metrics(plan, rows.index, of_rows, of_columns)


def _backward_share(plan: Plan, pairs: Pairs, gradient: Array) -> Pairs:
    """Returns the gradient by the images and texts of this device, scale and bias."""
    rows, columns = make_sides(plan, pairs)

    def step(
        known: tuple[Array, Array], columns: Side
    ) -> tuple[tuple[Array, Array], Array]:
        by_rows, by_bias = known
        with computed_again():
            block = make_block(plan, rows, columns, pairs.bias)
        sign = jnp.where(block.positives, -1, 1).astype(block.logits.dtype)
        by_logits = sign * jax.nn.sigmoid(sign * block.logits)
        by_rows = by_rows + by_logits @ columns.embedding
        known = by_rows, by_bias + by_logits.sum(1)
        return known, by_logits.T @ rows.embedding

    dtype = at_least_float32(pairs.image.dtype)
    known = jnp.zeros(pairs.image.shape, dtype), jnp.zeros(len(pairs.image), dtype)
    (by_rows, by_bias), by_columns = scan_gradients(plan, step, known, columns)
    factor = gradient / global_size(plan, len(pairs.image))
    by_pairs = make_gradient(
        plan, pairs, factor=factor, by_rows=by_rows, by_columns=by_columns
    )
    by_bias = factor * add_up(plan, by_bias.sum())
    return by_pairs._replace(bias=by_bias.astype(jnp.result_type(pairs.bias)))
