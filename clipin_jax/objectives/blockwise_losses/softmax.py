"""InfoNCE of both directions in blocks (CLIP, arXiv 2103.00020, figure 3).

The softmax of a row needs its largest logit and its sum only, which are combined over
blocks. The backward pass computes each block again.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.objectives.blockwise_losses.blocks import (
    SPLIT,
    WHOLE,
    Block,
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


def blockwise_softmax(
    image: Array,
    text: Array,
    scale: Array,
    ids: dict[str, Array],
    *,
    plan: Plan,
    label_smoothing: float = 0.0,
) -> tuple[Array, Metrics]:
    """Returns `losses.softmax_contrastive` of `scale * image @ text.T`, in blocks.

    Args:
      image: [B, E] float.
      text: [B, E] float; row i belongs to image i.
      scale: scalar.
      ids: [B] int32 each, from `duplicates.read_ids`.
      plan: from `make_plan`.
      label_smoothing: share of the label that is uniform over all candidates that are
        not masked.

    Returns:
      Scalar, with a gradient by image, text and scale; and the accuracy of both
      directions, and with ids the share of rows with a duplicate.
    """
    return _loss(image, text, scale, ids, plan, label_smoothing)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _loss(
    image: Array, text: Array, scale: Array, ids: dict[str, Array], *rules: Any
) -> tuple[Array, Metrics]:
    return _forward(image, text, scale, ids, *rules)[0]


def _forward(
    image: Array, text: Array, scale: Array, ids: dict[str, Array], *rules: Any
) -> tuple[tuple[Array, Metrics], Any]:
    plan = rules[0]
    forward = over_mesh(
        plan,
        functools.partial(_forward_share, *rules),
        (SPLIT, SPLIT, WHOLE, SPLIT),
        (WHOLE, WHOLE, SPLIT),
    )
    loss, metrics, softmaxes = forward(image, text, scale, ids)
    return (loss, metrics), (image, text, scale, ids, softmaxes)


def _backward(
    plan: Plan, smoothing: float, saved: Any, gradients: tuple[Array, Metrics]
) -> tuple[Array, Array, Array, None]:
    # The accuracies are steps: their gradient is zero.
    backward = over_mesh(
        plan,
        functools.partial(_backward_share, plan, smoothing),
        (SPLIT, SPLIT, WHOLE, SPLIT, SPLIT, WHOLE),
        (SPLIT, SPLIT, WHOLE),
    )
    return *backward(*saved, gradients[0]), None


_loss.defvjp(_forward, _backward)


def _forward_share(
    plan: Plan,
    smoothing: float,
    image: Array,
    text: Array,
    scale: Array,
    ids: dict[str, Array],
) -> tuple[Array, Metrics, tuple[Softmax, Softmax]]:
    """Returns the loss, metrics, and softmaxes of rows and columns of this device."""
    rows, columns = make_side(plan, scale * image, ids), make_side(plan, text, ids)

    def step(known: Stats, columns: Side) -> tuple[Stats, Stats]:
        block = make_block(plan, rows, columns)
        of_rows, of_columns = _block_stats(plan, block, rows, columns, bool(smoothing))
        return _combine(stack(known, of_rows), 0), of_columns

    start = _start_stats(rows, bool(smoothing))
    of_rows, parts = scan_columns(plan, step, start, columns)
    of_columns = _combine(exchange(plan, parts), 0)
    size = global_size(plan, len(image))
    total = sum(
        jnp.sum(_cross_entropy(plan, smoothing, size, stats))
        for stats in (of_rows, of_columns)
    )
    rankings = of_rows.ranking, of_columns.ranking
    metrics = ranking_metrics(plan, rows.index, *rankings)
    softmaxes = _softmax(of_rows), _softmax(of_columns)
    return add_up(plan, total) / (2 * size), metrics, softmaxes


def _backward_share(
    plan: Plan,
    smoothing: float,
    image: Array,
    text: Array,
    scale: Array,
    ids: dict[str, Array],
    softmaxes: tuple[Softmax, Softmax],
    gradient: Array,
) -> tuple[Array, Array, Array]:
    """Returns the gradient by the images and texts of this device and by the scale."""
    rows, columns = make_side(plan, scale * image, ids), make_side(plan, text, ids)
    of_rows = jax.tree.map(lambda x: x[:, None], softmaxes[0])
    size = global_size(plan, len(image))

    def over_labels(block: Block, softmax: Softmax) -> Array:
        probabilities = jnp.exp(block.logits - softmax.log_sum)
        return probabilities - _labels(plan, smoothing, size, block, softmax.twins)

    def step(by_rows: Array, visit: tuple[Side, Softmax]) -> tuple[Array, Array]:
        columns, of_columns = visit
        block = make_block(plan, rows, columns)
        by_logits = over_labels(block, of_rows) + over_labels(block, of_columns)
        by_rows = by_rows + by_logits @ columns.embedding
        return by_rows, by_logits.T @ rows.embedding

    start = jnp.zeros(image.shape, of_rows.log_sum.dtype)
    visits = columns, softmaxes[1]
    by_rows, by_columns = scan_gradients(plan, step, start, visits)
    factor = gradient / (2 * size)
    # The sum over pairs of gradient times cosine, without another pass over the pairs.
    by_scale = add_up(plan, jnp.sum(by_rows * image))
    return (
        (factor * scale * by_rows).astype(image.dtype),
        (factor * by_columns).astype(text.dtype),
        (factor * by_scale).astype(scale.dtype),
    )


def _block_stats(
    plan: Plan, block: Block, rows: Side, columns: Side, smooth: bool
) -> tuple[Stats, Stats]:
    """Returns what a block tells of its rows, and of its columns."""
    logits = block.logits
    candidates = jnp.where(_unmasked(plan, block), logits, 0) if smooth else None
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


def _start_stats(rows: Side, smooth: bool) -> Stats:
    """Returns the stats of rows of which nothing is known."""
    dtype = jnp.promote_types(rows.embedding.dtype, jnp.float32)
    ranking = start_ranking(rows, dtype)
    zero = jnp.zeros_like(ranking.best)
    return Stats(ranking, ranking.best, zero, zero, zero if smooth else None)


def _softmax(stats: Stats) -> Softmax:
    return Softmax(stats.top + jnp.log(stats.total), stats.ranking.twins)


def _cross_entropy(plan: Plan, smoothing: float, size: int, stats: Stats) -> Array:
    """Returns the cross-entropy of rows or columns, [b], of the stats of all pairs."""
    softmax = _softmax(stats)
    positive, candidate = _shares(plan, smoothing, size, softmax.twins)
    expected = positive * stats.positives
    if stats.candidates is not None:
        expected = expected + candidate * stats.candidates
    return softmax.log_sum - expected


def _labels(
    plan: Plan, smoothing: float, size: int, block: Block, twins: Array | None
) -> Array:
    """Returns the labels of a block, [b, c]; twins: of its rows or its columns."""
    positive, candidate = _shares(plan, smoothing, size, twins)
    labels = jnp.where(block.positives, positive, 0)
    if smoothing:
        labels = labels + jnp.where(_unmasked(plan, block), candidate, 0)
    return labels.astype(block.logits.dtype)


def _shares(
    plan: Plan, smoothing: float, size: int, twins: Array | None
) -> tuple[Any, Any]:
    """Returns the label of a positive, and what smoothing gives every candidate.

    Positives of several pairs share a label (UniCL, arXiv 2204.03610, eq. 2 and 3).
    """
    positives, candidates = 1, size
    if plan.duplicates == MULTI_POSITIVE and twins is not None:
        positives = 1 + twins
    if plan.duplicates == MASK and twins is not None:
        candidates = size - twins
    return (1 - smoothing) / positives, smoothing / candidates


def _unmasked(plan: Plan, block: Block) -> Array:
    """Returns the candidates of a block, [b, c] bool."""
    if plan.duplicates != MASK or block.duplicates is None:
        return jnp.ones_like(block.positives)
    return ~block.duplicates
