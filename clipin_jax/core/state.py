"""The train state: everything that a restart needs, in one frozen tree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.core.learner import Learner
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_paths import Params, merge
from clipin_jax.types import Array, Batch, Hyper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run; nothing else is kept over a restart.

    Attributes:
      step: int32 scalar, steps taken, skipped ones included.
      skipped: int32 scalar, updates skipped for a loss or gradient that is not finite.
      skipped_in_a_row: int32 scalar, those since the last good update.
      params: the online parameters, trained and frozen.
      collections: what modules keep between steps (batch statistics), online.
      opt_state: of the optimizer chain, for the trained parameters.
      target_params: averages of the trained parameters that the objectives' `targets`
        use; empty when there are none. Never in half precision: an average would stand
        still. Frozen ones are their own average and have no copy here.
      target_collections: what the target's modules keep between steps; never averaged.
    """

    step: Array
    skipped: Array
    skipped_in_a_row: Array
    params: Params
    collections: Mapping[str, Params]
    opt_state: Any
    target_params: Params
    target_collections: Mapping[str, Params]

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the online branch, for `learner.apply`."""
        return {"params": self.params, **self.collections}

    @property
    def target_variables(self) -> dict[str, Any]:
        """The variables of the target branch, for `learner.apply`.

        Parameters without an average are the online ones; of these the target reads
        only those that are frozen.
        """
        params = merge(self.params, self.target_params)
        return {"params": params, **self.target_collections}


def select(tree: Any, like: Any) -> Any:
    """Returns the part of a nested dict that has the keys of another."""
    if not isinstance(like, dict):
        return tree
    return {key: select(tree[key], like[key]) for key in like}


def create_state(
    learner: Learner, optimizer: Optimizer, batch: Batch, hyper: Hyper
) -> TrainState:
    """Returns the state before the first step; pure, for `jit` and `eval_shape`.

    The target starts as a copy of the online parameters: of exactly those that
    `learner.targets` uses and that are trained.

    Args:
      learner: initialises its parameters.
      optimizer: initialises its state for the parameters that it trains.
      batch: an example; its values do not matter.
      hyper: the numbers of any step; of these only `seed` matters.

    Raises:
      ClipinError: the optimizer's groups do not fit the parameters.
    """
    key = jax.random.key(hyper["seed"])
    variables = learner.init(key, batch, hyper, method="initialize")
    target = jax.eval_shape(lambda: learner.init(key, batch, method="targets"))
    params, collections = _split(variables)
    used, target_collections = _split(target)
    optimizer.check(params)
    trained, _ = optimizer.split(params)
    averaged, _ = optimizer.split(used)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        skipped=zero,
        skipped_in_a_row=zero,
        params=params,
        collections=collections,
        opt_state=optimizer(hyper).init(trained),
        target_params=_copy(select(params, averaged)),
        target_collections=_copy(select(collections, target_collections)),
    )


def _copy(tree: Any) -> Any:
    """Returns copies: the step donates its state, so no leaves may share a buffer."""
    return jax.tree.map(jnp.copy, tree)


def _split(variables: Mapping[str, Any]) -> tuple[Params, Mapping[str, Params]]:
    """Returns the parameters and the other collections."""
    collections = dict(variables)
    return collections.pop("params", {}), collections
