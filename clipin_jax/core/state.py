"""Everything that a restart needs, in one frozen tree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.core.optimizers import Optimizer
from clipin_jax.types import Array, Batch, Hyper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run; what is not in it does not exist after a restart.

    Attributes:
      step: int32 scalar, steps taken, skipped ones included.
      skipped: int32 scalar, updates skipped for a loss or gradient that is not finite.
      skipped_in_a_row: int32 scalar, those since the last good update.
      params: the online parameters.
      collections: what modules remember between steps (batch statistics), online.
      opt_state: of the optimizer chain.
      target_params: averages of just those parameters from which objectives ask; empty
        when none asks. Never in half precision: an average would stand still.
      target_collections: the target's own memory; never averaged.
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
        """What `learner.apply` wants for the online branch."""
        return {"params": self.params, **self.collections}

    @property
    def target_variables(self) -> dict[str, Any]:
        """What `learner.apply` wants for the target branch."""
        return {"params": self.target_params, **self.target_collections}


def select(tree: Any, like: Any) -> Any:
    """The part of a nested dict that has the keys of another."""
    if not isinstance(like, dict):
        return tree
    return {key: select(tree[key], like[key]) for key in like}


def create_state(
    learner: Any, optimizer: Optimizer, batch: Batch, hyper: Hyper, seed: Any
) -> TrainState:
    """The state before the first step; pure, for `jit` and `eval_shape`.

    The target starts as a copy of the online parameters. Which of them it holds is
    read off the modules: exactly those that `learner.targets` touches.
    """
    key = jax.random.key(seed)
    variables = learner.init(key, batch, hyper, method="initialize")
    target = jax.eval_shape(lambda: learner.init(key, batch, method="targets"))
    params, collections = _split(variables)
    target_params, target_collections = _split(target)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        skipped=zero,
        skipped_in_a_row=zero,
        params=params,
        collections=collections,
        opt_state=optimizer(hyper).init(params),
        target_params=_copy(select(params, target_params)),
        target_collections=_copy(select(collections, target_collections)),
    )


def _copy(tree: Any) -> Any:
    """The step donates its state, so no two leaves may share a buffer."""
    return jax.tree.map(jnp.copy, tree)


def _split(variables: Any) -> tuple[Any, Any]:
    collections = dict(variables)
    return collections.pop("params", {}), collections
