"""Which runs can have micro-batches."""

from collections.abc import Mapping
from typing import Any

from clipin_jax.core.freezing import ModulePath
from clipin_jax.core.learner import Learner
from clipin_jax.core.micro_batches.pair_objectives import (
    pair_objectives,
    runs_on_pieces,
)
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.errors import ClipinError
from clipin_jax.objectives.base import TOWERS, reads_of


def check_micro_batches(
    count: int,
    batch_size: int,
    devices: int,
    *,
    learner: Learner,
    collections: Mapping[str, Any],
    frozen: frozenset[ModulePath],
) -> None:
    """Checks that the towers of a learner can run on micro-batches.

    Args:
      count: the key `micro_batches`.
      batch_size: B, a multiple of `devices`.
      devices: of the mesh.
      learner: towers and objectives.
      collections: what online modules keep between steps.
      frozen: from `frozen_modules`.

    Raises:
      ClipinError: they cannot.
    """
    rows = batch_size // devices
    if count < 1 or rows % count:
        raise ClipinError(
            f"micro_batches is {count}: give a divisor of {rows}, the pairs of a device"
        )
    if count == 1:
        return
    of_pairs = pair_objectives(learner)
    for name, objective in learner.objectives.items():
        if TOWERS in reads_of(objective) and name not in of_pairs:
            raise ClipinError(
                f"micro_batches is {count}, but objectives.{name} reads more of the "
                "towers than a vector for each image and text, and is no mean over "
                "pairs: set micro_batches = 1, or remove the objective"
            )
    for path in paths_of(list(collections.values())):
        _, *names = path.split("/")
        modules = {tuple(names[:depth]) for depth in range(1, len(names))}
        if runs_on_pieces(learner, "/".join(names)) and not modules & frozen:
            raise ClipinError(
                f"micro_batches is {count}, but {_key(*names)} has batch statistics or "
                "other state, which pieces of a batch would change one by one: set "
                "micro_batches = 1, freeze it, or choose another"
            )


def _key(part: str, module: str, *_: str) -> str:
    """Returns the config key of what a variable belongs to."""
    return f"model.{module}" if part == "towers" else part.replace("_", ".", 1)
