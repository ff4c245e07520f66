"""Finds the largest logit of each row and column block by block, for the accuracies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.objectives.blockwise_losses.blocks import add_up, global_size
from clipin_jax.objectives.blockwise_losses.pairs import Block, Plan, Side
from clipin_jax.types import Array, Metrics

_NOWHERE = jnp.iinfo(jnp.int32).max  # after every index


class Ranking(NamedTuple):
    """What is known of rows, or of columns, from some of their logits.

    Attributes:
      best: [b], the largest logit.
      index: [b] int32, the first place with that logit.
      twins: [b] int32, the number of duplicates; None without ids.
    """

    best: Array
    index: Array
    twins: Array | None


def start_ranking(rows: Side, dtype: Any) -> Ranking:
    """Returns the ranking of rows of which nothing is known."""
    none = jnp.zeros_like(rows.index)
    best = jnp.full(none.shape, -jnp.inf, dtype)
    return Ranking(best, none + _NOWHERE, none if rows.ids else None)


def pair_rankings(block: Block, rows: Side, columns: Side) -> tuple[Ranking, Ranking]:
    """Returns each pair of a block as a ranking, for its row and for its column."""
    twins = None if block.duplicates is None else block.duplicates.astype(jnp.int32)
    return (
        Ranking(block.ranked, columns.index[None], twins),
        Ranking(block.ranked, rows.index[:, None], twins),
    )


def combine_rankings(rankings: Ranking, axis: int) -> Ranking:
    """Returns one ranking of those along an axis."""
    best, index, twins = rankings
    largest = best.max(axis, keepdims=True)
    # The first one, as `argmax`: the blocks of a ring do not come in order.
    first = jnp.where(best == largest, index, _NOWHERE).min(axis)
    twins = None if twins is None else twins.sum(axis, dtype=jnp.int32)
    return Ranking(largest.squeeze(axis), first, twins)


def stack(first: Any, second: Any) -> Any:
    """Returns two trees of equal arrays as one, with a new first axis."""
    return jax.tree.map(lambda *pair: jnp.stack(pair), first, second)


def ranking_metrics(
    plan: Plan, index: Array, rows: Ranking, columns: Ranking
) -> Metrics:
    """Returns the accuracy of both directions, and the share of rows with a duplicate.

    Args:
      plan: of the batch.
      index: [b], of the pairs of this device.
      rows, columns: their rankings, from the whole batch.
    """
    right = {
        "image_to_text_accuracy": rows.index == index,
        "text_to_image_accuracy": columns.index == index,
    }
    if rows.twins is not None:
        right["duplicates"] = rows.twins > 0
    size = global_size(plan, len(index))
    counts = {name: jnp.sum(x, dtype=rows.best.dtype) for name, x in right.items()}
    return {name: count / size for name, count in add_up(plan, counts).items()}
