"""InfoNCE of both directions in blocks (CLIP, arXiv 2103.00020, figure 3).

The softmax of a row needs its largest logit and its sum only, which are combined over
blocks. The backward pass computes each block again.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.models.layers import at_least_float32
from clipin_jax.models.remat import computed_again
from clipin_jax.objectives.blockwise_losses.blocks import (
    PAIRS,
    SPLIT,
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
    Block,
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
from clipin_jax.objectives.duplicates import MASK, MULTI_POSITIVE
from clipin_jax.types import Array, Metrics


class Stats(NamedTuple):
    """What is known of rows, or of columns, from some of their logits, [b] each.

    Attributes:
      ranking: for the accuracy.
      top: the largest logit.
      total: the sum of exp(logit - top).
      positives: the sum of the logits of positives.
      candidates: the sum of all logits that are not masked; None without smoothing.
    """

    ranking: Ranking
    top: Array
    total: Array
    positives: Array
    candidates: Array | None


class Softmax(NamedTuple):
    """What the gradient needs of rows, or of columns, [b] each.

    Attributes:
      log_sum: the logarithm of the sum of the exponentials of the logits.
      twins: the number of duplicates; None without ids.
    """

    log_sum: Array
    twins: Array | None


def blockwise_softmax(pairs: Pairs, plan: Plan) -> tuple[Array, Metrics]:
    """Returns `losses.softmax_contrastive` of the logits of all pairs, in blocks.

    Args:
      pairs: of the batch, without a bias: it would change nothing.
      plan: from `make_plan`.

    Returns:
      Scalar, with a gradient by image, text and scale; and the accuracy of both
      directions, and with ids the share of rows with a duplicate.
    """
    return _loss(pairs, plan)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _loss(pairs: Pairs, plan: Plan) -> tuple[Array, Metrics]:
    return _forward(pairs, plan)[0]


def _forward(pairs: Pairs, plan: Plan) -> tuple[tuple[Array, Metrics], Any]:
    share = functools.partial(_forward_share, plan)
    forward = over_mesh(plan, share, (PAIRS,), (WHOLE, WHOLE, SPLIT))
    loss, metrics, softmaxes = forward(pairs)
    return (loss, metrics), (pairs, softmaxes)


def _backward(plan: Plan, saved: Any, gradients: tuple[Array, Metrics]) -> tuple[Pairs]:
    share = functools.partial(_backward_share, plan)
    backward = over_mesh(plan, share, (PAIRS, SPLIT, WHOLE), PAIRS)
    # The accuracies are steps: their gradient is zero.
    return (backward(*saved, gradients[0]),)


_loss.defvjp(_forward, _backward)


def _forward_share(
    plan: Plan, pairs: Pairs
) -> tuple[Array, Metrics, tuple[Softmax, Softmax]]:
    """Returns the loss, metrics, and softmaxes of rows and columns of this device."""
    rows, columns = make_sides(plan, pairs)

    def step(known: Stats, columns: Side) -> tuple[Stats, Stats]:
        block = make_block(plan, rows, columns)
        of_rows, of_columns = _block_stats(plan, block, rows, columns)
        return _combine(stack(known, of_rows), 0), of_columns

    of_rows, parts = scan_columns(plan, step, _start_stats(plan, rows), columns)
    of_columns = _combine(exchange(plan, parts), 0)
    size = global_size(plan, len(pairs.image))
    total = sum(
        jnp.sum(_cross_entropy(plan, size, stats)) for stats in (of_rows, of_columns)
    )
    rankings = of_rows.ranking, of_columns.ranking
    metrics = ranking_metrics(plan, rows.index, *rankings)
    softmaxes = _softmax(of_rows), _softmax(of_columns)
    return add_up(plan, total) / (2 * size), metrics, softmaxes


def _backward_share(
    plan: Plan, pairs: Pairs, softmaxes: tuple[Softmax, Softmax], gradient: Array
) -> Pairs:
    """Returns the gradient by the images and texts of this device and by the scale."""
    rows, columns = make_sides(plan, pairs)
    of_rows = jax.tree.map(lambda x: x[:, None], softmaxes[0])
    size = global_size(plan, len(pairs.image))

    def over_labels(block: Block, softmax: Softmax) -> Array:
        probabilities = jnp.exp(block.logits - softmax.log_sum)
        return probabilities - _labels(plan, size, block, softmax.twins)

    def step(by_rows: Array, visit: tuple[Side, Softmax]) -> tuple[Array, Array]:
        columns, of_columns = visit
        with computed_again():
            block = make_block(plan, rows, columns)
        by_logits = over_labels(block, of_rows) + over_labels(block, of_columns)
        by_rows = by_rows + by_logits @ columns.embedding
        return by_rows, by_logits.T @ rows.embedding

    start = jnp.zeros(pairs.image.shape, of_rows.log_sum.dtype)
    visits = columns, softmaxes[1]
    by_rows, by_columns = scan_gradients(plan, step, start, visits)
    return make_gradient(
        plan,
        pairs,
        factor=gradient / (2 * size),
        by_rows=by_rows,
        by_columns=by_columns,
    )


def _block_stats(
    plan: Plan, block: Block, rows: Side, columns: Side
) -> tuple[Stats, Stats]:
    """Returns what a block tells of its rows, and of its columns."""
    logits, candidates = block.logits, None
    if plan.label_smoothing:
        candidates = jnp.where(_unmasked(plan, block), logits, 0)
    positives = jnp.where(block.positives, logits, 0)
    rankings = pair_rankings(block, rows, columns)
    of_rows, of_columns = (
        _combine(
            Stats(ranking, logits, jnp.ones_like(logits), positives, candidates), axis
        )
        for ranking, axis in zip(rankings, (1, 0), strict=True)
    )
    return of_rows, of_columns


def _combine(stats: Stats, axis: int) -> Stats:
    """Returns what all stats along an axis tell together."""
    ranking, top, total, positives, candidates = stats
    largest = top.max(axis, keepdims=True)
    return Stats(
        combine_rankings(ranking, axis),
        largest.squeeze(axis),
        jnp.sum(total * jnp.exp(top - largest), axis),
        positives.sum(axis),
        None if candidates is None else candidates.sum(axis),
    )


def _start_stats(plan: Plan, rows: Side) -> Stats:
    """Returns the stats of rows of which nothing is known."""
    dtype = at_least_float32(rows.embedding.dtype)
    ranking = start_ranking(rows, dtype)
    zero = jnp.zeros_like(ranking.best)
    return Stats(
        ranking, ranking.best, zero, zero, zero if plan.label_smoothing else None
    )


def _softmax(stats: Stats) -> Softmax:
    return Softmax(stats.top + jnp.log(stats.total), stats.ranking.twins)


def _cross_entropy(plan: Plan, size: int, stats: Stats) -> Array:
    """Returns the cross-entropy of rows or columns, [b], of the stats of all pairs."""
    softmax = _softmax(stats)
    positive, candidate = _shares(plan, size, softmax.twins)
    expected = positive * stats.positives
    if stats.candidates is not None:
        expected = expected + candidate * stats.candidates
    return softmax.log_sum - expected


def _labels(plan: Plan, size: int, block: Block, twins: Array | None) -> Array:
    """Returns the labels of a block, [b, c]; twins: of its rows or its columns."""
    positive, candidate = _shares(plan, size, twins)
    labels = jnp.where(block.positives, positive, 0)
    if plan.label_smoothing:
        labels = labels + jnp.where(_unmasked(plan, block), candidate, 0)
    return labels.astype(block.logits.dtype)


def _shares(plan: Plan, size: int, twins: Array | None) -> tuple[Any, Any]:
    """Returns the label of a positive, and what smoothing gives every candidate.

    Positives of several pairs share a label (UniCL, arXiv 2204.03610, eq. 2 and 3).
    """
    positives, candidates = 1, size
    if plan.duplicates == MULTI_POSITIVE and twins is not None:
        positives = 1 + twins
    if plan.duplicates == MASK and twins is not None:
        candidates = size - twins
    smoothing = plan.label_smoothing
    return (1 - smoothing) / positives, smoothing / candidates


def _unmasked(plan: Plan, block: Block) -> Array:
    """Returns the candidates of a block, [b, c] bool."""
    if plan.duplicates != MASK or block.duplicates is None:
        return jnp.ones_like(block.positives)
    return ~block.duplicates
