"""Objectives that average over pairs, and what they take of some rows of a batch.

See `objectives.base.AveragesPairs`. `run_pairs` and `pair_targets` are methods for
`Learner.apply`, which binds the learner.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from clipin_jax.core.learner import (
    MODALITIES,
    OTHER_VIEW,
    Learner,
    target_view,
    view_of,
)
from clipin_jax.core.parameter_paths import split
from clipin_jax.errors import explained
from clipin_jax.objectives.base import averages_pairs
from clipin_jax.objectives.losses import Mean
from clipin_jax.types import Array, Batch, Hyper

Rngs = dict[str, Array]
# Objective -> its loss and metrics.
Means = dict[str, tuple[Mean, Mapping[str, Mean]]]


class PairInputs(NamedTuple):
    """What they take of a step besides the variables of the online branch.

    Attributes:
      batch: all views.
      hyper: of the step.
      target_variables, target_rngs: of the target branch.
    """

    batch: Batch
    hyper: Hyper
    target_variables: Mapping[str, Any]
    target_rngs: Rngs


def pair_inputs(
    learner: Learner,
    batch: Batch,
    hyper: Hyper,
    target_variables: Mapping[str, Any],
    target_rngs: Rngs,
) -> PairInputs | None:
    """Returns their inputs, without what no piece needs; None if there are none."""
    if not pair_objectives(learner):
        return None
    views = {name: batch[name] for name in OTHER_VIEW if name in batch}
    variables = of_pieces(learner, target_variables)
    return PairInputs(views, hyper, variables, target_rngs)


def pair_objectives(learner: Learner) -> dict[str, Any]:
    """Returns name -> objective for those that average over pairs."""
    return {n: o for n, o in learner.objectives.items() if averages_pairs(o)}


def of_pieces(learner: Learner, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables that pieces run with: devices need not hold the others."""
    is_own = functools.partial(runs_on_pieces, learner)
    return {name: split(tree, is_own)[0] for name, tree in variables.items()}


def runs_on_pieces(learner: Learner, path: str) -> bool:
    """Whether pieces run with a parameter.

    It is of a tower itself, or of one of these objectives, which may also read what
    follows `pooled`.
    """
    names = pair_objectives(learner)
    own = ("towers/", *(f"objectives_{name}/" for name in names))
    return is_of_a_tower(path) or bool(names) and path.startswith(own)


def is_of_a_tower(path: str) -> bool:
    """Whether a parameter is of a tower itself, not of what follows `pooled`."""
    return path.startswith(tuple(f"towers/{modality}/" for modality in MODALITIES))


def run_pairs(
    learner: Learner,
    batch: Batch,
    online: str,
    targets: Mapping[str, Any],
    hyper: Hyper,
) -> tuple[dict[str, Array], Means]:
    """Trains the towers and these objectives on some rows.

    Args:
      learner: with online variables.
      batch: the rows of all views.
      online: the view of the online branch.
      targets: from `pair_targets`.
      hyper: of the step.

    Returns:
      `pooled` of the view, as `Learner.pool` returns it, and the means.
    """
    features = learner.towers.encode(view_of(batch, online), train=True)
    inputs = learner.make_inputs(batch, online, features, train=True)
    means: Means = {}
    for name, objective in pair_objectives(learner).items():
        scalars = hyper["objectives"][name]
        own = inputs._replace(targets=targets.get(name), hyper=scalars)
        with learner.explaining(name):
            means[name] = objective.means(own)
    return {modality: f["pooled"] for modality, f in features.items()}, means


def pair_targets(
    learner: Learner, batch: Batch, online: str, target: str
) -> dict[str, Any]:
    """Returns the targets of these objectives that are made of one view of some rows.

    Args:
      learner: with variables of the target.
      batch: the rows of all views.
      online: the view of the online branch.
      target: the view of the target branch.
    """
    objectives = {
        name: objective
        for name, objective in learner.objectives_with("targets").items()
        if averages_pairs(objective) and target_view(objective, online) == target
    }
    if not objectives:
        return {}
    view, targets = view_of(batch, target), {}
    features = learner.towers.encode(view, train=True)
    for name, objective in objectives.items():
        with explained(f"objectives.{name}"):
            targets[name] = objective.targets(learner.towers, view, features, True)
    return targets
