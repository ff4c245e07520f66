"""Inputs of an objective that is tested alone."""

from typing import Any

from clipin_jax.objectives.base import Inputs


def objective_inputs(features: Any, **given: Any) -> Inputs:
    """Returns inputs with these features; fields that are not given are empty."""
    view = given.setdefault("view", {})
    defaults = dict(
        towers=None,
        other_view=view,
        targets=None,
        hyper={"weight": 1.0},
        train=True,
    )
    return Inputs(features=features, **defaults | given)
