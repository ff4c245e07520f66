"""Which arrays of a run another library has a place for: towers and scale."""

from collections.abc import Iterator, Mapping

import numpy as np

from clipin_jax.interop.exports.trained_model import TrainedModel

_TOWERS, _OBJECTIVES = "towers/", "objectives_"


def kept_arrays(model: TrainedModel, objective: str) -> dict[str, np.ndarray]:
    """Returns the arrays of the towers, and the scale and bias of logits.

    Args:
      model: of which other objectives are left out.
      objective: its name; in the result it has the name of its type, as in tables.
    """
    spec = model.config.objectives[objective]
    ours, there = (
        f"{_OBJECTIVES}{n}/" for n in (objective, spec.get("type", objective))
    )
    kept = {}
    for path, value in model.arrays.items():
        if path.startswith(_TOWERS):
            kept[path] = value
        elif path.startswith(f"{ours}logit_"):
            kept[path.replace(ours, there, 1)] = value
    return kept


def kept_note(model: TrainedModel, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields sentences about what the export leaves out or merges.

    Args:
      model: before the export.
      arrays: of the export, by path.
    """
    written = {path.partition("/")[0] for path in arrays}
    left_out = sorted(
        name
        for name, spec in model.config.objectives.items()
        if f"{_OBJECTIVES}{spec.get('type', name)}" not in written
    )
    if left_out:
        names = ", ".join(left_out)
        yield f"Objectives that only training needs are left out: {names}."
    if model.config.model.pre_projector:
        yield (
            "The pre-projector and the projection after it are one matrix here; where "
            "that has no place for a bias, the norm before it has taken it over."
        )
