"""Finds pairs with the same image or caption, which are no negatives of each other.

Contrastive losses treat all other pairs of a batch as negatives. If two rows share an
image or a caption ("no finding" for half of all X-rays), they separate what is equal. A
view identifies its pairs by `image_id` and `text_id`: [B] int32, equal for equal images
or captions. A negative id equals no other. The ids are those of the online view.
"""

import jax.numpy as jnp

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.objectives.base import ObjectiveModule
from clipin_jax.objectives.losses import mask_logits
from clipin_jax.types import Array, View

IGNORE, MASK, MULTI_POSITIVE = CHOICES = ("ignore", "mask", "multi_positive")
IDS = ("image_id", "text_id")
NO_ID = -1


def check_choice(
    objective: ObjectiveModule, choice: str, choices: tuple[str, ...] = CHOICES
) -> None:
    """Checks the option `duplicates` of an objective.

    Raises:
      ClipinError: it is not one of the choices.
    """
    if choice not in choices:
        raise ClipinError(
            f"{objective.config_key}.duplicates is {choice!r}: "
            f"{did_you_mean(choice, choices)}"
        )


def read_ids(objective: ObjectiveModule, choice: str, view: View) -> dict[str, Array]:
    """Returns the ids of a view's pairs, [B] each; none if duplicates are ignored.

    Raises:
      ClipinError: the choice needs ids, but the view has none.
    """
    if choice == IGNORE:
        return {}
    missing = [name for name in IDS if name not in view]
    if missing:
        raise ClipinError(
            f"{objective.config_key}.duplicates = {choice!r} compares image_id and "
            f"text_id, but the data does not give {' and '.join(missing)}: add them to "
            f"the data, or set {objective.config_key}.duplicates = {IGNORE!r}"
        )
    return {name: jnp.asarray(view[name]) for name in IDS}


def find_duplicates(
    ids: dict[str, Array], candidate_ids: dict[str, Array] | None = None
) -> Array | None:
    """Returns which candidates are duplicates of each pair of a batch.

    Args:
      ids: from `read_ids`.
      candidate_ids: the ids of N pairs, those of the batch first; None for the batch
        only.

    Returns:
      [B, N] bool, false on the diagonal; None without ids.
    """
    if not ids:
        return None
    equal = share_an_id(ids, candidate_ids or ids)
    return equal & ~jnp.eye(*equal.shape, dtype=bool)


def share_an_id(ids: dict[str, Array], candidate_ids: dict[str, Array]) -> Array:
    """Returns which candidates have an image or a caption of each pair, [B, N] bool.

    A pair that is among the candidates has its own.

    Args:
      ids: from `read_ids`, of B pairs.
      candidate_ids: those of N pairs.
    """
    equal = jnp.zeros((), bool)
    for name in IDS:
        candidates = candidate_ids[name]
        equal |= (ids[name][:, None] == candidates) & (candidates >= 0)
    return equal


def apply_choice(
    choice: str, logits: Array, duplicates: Array | None
) -> tuple[Array, Array | None]:
    """Returns the logits and positives of a contrastive loss for a choice.

    Args:
      choice: one of `CHOICES`.
      logits: [B, N] float, pairs on the diagonal.
      duplicates: from `find_duplicates`.

    Returns:
      The logits, [B, N], with duplicates masked unless they are positives; and the
      positives, [B, N] bool, or None if they are the diagonal only.
    """
    if choice == MULTI_POSITIVE and duplicates is not None:
        return logits, duplicates | jnp.eye(*logits.shape, dtype=bool)
    return mask_logits(logits, duplicates), None


def duplicate_metrics(duplicates: Array | None) -> dict[str, Array]:
    """Returns the share of rows with a duplicate in the batch; {} if ignored."""
    if duplicates is None:
        return {}
    in_batch = duplicates[:, : duplicates.shape[0]]
    return {"duplicates": jnp.mean(jnp.any(in_batch, axis=1))}
