"""The train state: everything that a restart needs, in one tree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.core.learner import Learner
from clipin_jax.core.lora import add_factors, check_layers, recording_layers
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_paths import Params, merge
from clipin_jax.types import Array, Batch, Hyper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run; nothing else is kept over a restart.

    Attributes:
      step: int32 scalar, steps taken, including skipped ones.
      skipped: int32 scalar, updates skipped for a loss or gradient that is not finite.
      skipped_in_a_row: int32 scalar, those since the last good update.
      params: the online parameters, trained and frozen.
      collections: state of online modules between steps (batch statistics).
      opt_state: of the optimizer chain, for the trained parameters; None in a state
        that is used and not trained.
      target_params: averages of the trained parameters that `targets` of objectives
        use; empty without any. Never in half precision, in which an average would not
        change. Frozen parameters equal their average and have no copy here.
      target_collections: state of target modules between steps; never averaged.
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

        Parameters without an average are the online ones; the target uses only the
        frozen ones of these.
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

    The target starts as a copy of those online parameters that `learner.targets` uses
    and that are trained.

    Args:
      learner: initialises its parameters.
      optimizer: initialises its state for the parameters that it trains.
      batch: an example batch; its values have no effect.
      hyper: of any step; only `seed` has an effect.

    Raises:
      ClipinError: the optimizer's groups or the learner's low-rank factors do not fit
        the parameters.
    """
    key = jax.random.key(hyper["seed"])
    with recording_layers() as layers:
        variables = learner.init(key, batch, hyper, method="initialize")
        target = jax.eval_shape(lambda: learner.init(key, batch, method="targets"))
    params, collections = _split(variables)
    used, target_collections = _split(target)
    check_layers(learner.lora, layers)
    params, used = (add_factors(p, learner.lora, layers, key) for p in (params, used))
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
    """Copies leaves: the step donates its state, so no leaves may share a buffer."""
    return jax.tree.map(jnp.copy, tree)


def _split(variables: Mapping[str, Any]) -> tuple[Params, Mapping[str, Params]]:
    """Returns the parameters and the other collections."""
    collections = dict(variables)
    return collections.pop("params", {}), collections
