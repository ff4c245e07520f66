"""Everything that a restart needs, in one frozen tree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_paths import merge
from clipin_jax.types import Array, Batch, Hyper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run; what is not in it does not exist after a restart.

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
    params: Any
    collections: Any
    opt_state: Any
    target_params: Any
    target_collections: Any

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
    """The part of a nested dict that has the keys of another."""
    if not isinstance(like, dict):
        return tree
    return {key: select(tree[key], like[key]) for key in like}


def create_state(
    learner: Any, optimizer: Optimizer, batch: Batch, hyper: Hyper, seed: Any
) -> TrainState:
    """Returns the state before the first step; pure, for `jit` and `eval_shape`.

    The target starts as a copy of the online parameters: of exactly those that
    `learner.targets` touches and that are trained.

    Raises:
      ClipinError: the optimizer's groups do not fit the parameters.
    """
    key = jax.random.key(seed)
    variables = learner.init(key, batch, hyper, method="initialize")
    target = jax.eval_shape(lambda: learner.init(key, batch, method="targets"))
    params, collections = _split(variables)
    touched, target_collections = _split(target)
    optimizer.check(params)
    trained, _ = optimizer.split(params)
    averaged, _ = optimizer.split(touched)
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
    """The step donates its state, so no two leaves may share a buffer."""
    return jax.tree.map(jnp.copy, tree)


def _split(variables: Any) -> tuple[Any, Any]:
    collections = dict(variables)
    return collections.pop("params", {}), collections
