"""Pairs of a batch that are no wrong answers to each other.

A contrast takes all other pairs for wrong. Where two rows show one picture, or have one
caption ("no finding" under every second X-ray), that teaches the model to tell apart
what is the same. A view says what is the same by two numbers of each row, `image_id`
and `text_id`: [B] int32, equal for the same picture or caption; a negative one is equal
to none. Read are those of the view that the online branch sees.
"""

import jax.numpy as jnp

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.objectives.base import Objective
from clipin_jax.objectives.losses import without
from clipin_jax.types import Array, View

IGNORE, MASK, MULTI_POSITIVE = CHOICES = ("ignore", "mask", "multi_positive")
IDS = ("image_id", "text_id")
NOBODY = -1


def check_choice(
    objective: Objective, choice: str, choices: tuple[str, ...] = CHOICES
) -> None:
    """Checks the option `duplicates` of an objective.

    Raises:
      ClipinError: it is none of the choices.
    """
    if choice not in choices:
        raise ClipinError(
            f"{objective.config_key}.duplicates is {choice!r}: "
            f"{did_you_mean(choice, choices)}"
        )


def read_ids(objective: Objective, choice: str, view: View) -> dict[str, Array]:
    """The ids of a view's pairs, [B] each; none where duplicates are ignored.

    Raises:
      ClipinError: they are asked for, but the view has none.
    """
    if choice == IGNORE:
        return {}
    missing = [name for name in IDS if name not in view]
    if missing:
        raise ClipinError(
            f"{objective.config_key}.duplicates = {choice!r} compares image_id and "
            f"text_id, but the data does not give {' and '.join(missing)}: let it, or "
            f"set {objective.config_key}.duplicates = {IGNORE!r}"
        )
    return {name: jnp.asarray(view[name]) for name in IDS}


def find_duplicates(
    ids: dict[str, Array], known: dict[str, Array] | None = None
) -> Array | None:
    """Which of the known pairs, other than itself, is the same as each of a batch?

    Args:
      ids: from `read_ids`.
      known: the same of N pairs, those of the batch first; None for the batch alone.

    Returns:
      [B, N] bool, false on the diagonal; None where there are no ids.
    """
    if not ids:
        return None
    known = known or ids
    same = jnp.zeros((), bool)
    for name in IDS:
        same |= (ids[name][:, None] == known[name]) & (known[name] >= 0)
    return same & ~jnp.eye(*same.shape, dtype=bool)


def resolve(
    choice: str, logits: Array, duplicates: Array | None
) -> tuple[Array, Array | None]:
    """What a loss is given, for it to judge duplicates as was chosen.

    Args:
      choice: one of `CHOICES`.
      logits: [B, N] float, pairs on the diagonal.
      duplicates: from `find_duplicates`.

    Returns:
      The logits, without duplicates if they are masked; and the right answers, [B, N]
      bool, or None where they are the diagonal alone.
    """
    if choice == MULTI_POSITIVE and duplicates is not None:
        return logits, duplicates | jnp.eye(*logits.shape, dtype=bool)
    return without(logits, duplicates), None


def duplicate_metrics(duplicates: Array | None) -> dict[str, Array]:
    """The share of rows that have a duplicate in the batch; nothing where ignored."""
    if duplicates is None:
        return {}
    in_batch = duplicates[:, : duplicates.shape[0]]
    return {"duplicates": jnp.mean(jnp.any(in_batch, axis=1))}
