"""The pure functions that training compiles: step and health. `jit` is outside."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipin_jax.core.optimizers import Optimizer
from clipin_jax.core.state import TrainState, select
from clipin_jax.types import Array, Batch, Hyper, Metrics

BRANCHES = ("online", "target")
# Equal learners get the same function, which jax compiles once in a process, however
# many runs it serves.
_PROGRAMS = 32
TrainStep = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]
ViewMaker = Callable[[Any], Batch]


def identity(batch: Batch) -> Batch:
    """The `ViewMaker` of batches whose views the host has made."""
    return batch


@functools.lru_cache(_PROGRAMS)
def make_train_step(
    learner: Any, optimizer: Optimizer, views: ViewMaker = identity
) -> TrainStep:
    """One update of everything, as a pure function.

    The target speaks outside the gradient, the online branch answers, the optimizer
    moves the parameters, and last the target moves towards them. An update whose loss
    or gradient is not finite leaves all but the counters as it was. `views` makes the
    views of what the host sends.

    Returns:
      `(state, batch, hyper) -> (state, metrics)`.
    """

    def train_step(
        state: TrainState, batch: Batch, hyper: Hyper
    ) -> tuple[TrainState, Metrics]:
        batch = views(batch)
        targets, target_collections = learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections),
            rngs=_rngs(hyper["seed"], state.step, "target"),
        )  # fmt: skip

        def loss_fn(params: Any) -> tuple[Array, tuple[Metrics, Any]]:
            (loss, metrics), collections = learner.apply(
                {"params": params, **state.collections}, batch, targets, hyper,
                mutable=list(state.collections),
                rngs=_rngs(hyper["seed"], state.step, "online"),
            )  # fmt: skip
            return loss, (metrics, collections)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (metrics, collections)), grads = gradient(state.params)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        def update() -> TrainState:
            updates, opt_state = optimizer(hyper).update(
                grads, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, updates)
            target_params = optax.incremental_update(
                select(params, state.target_params),
                state.target_params,
                1 - hyper["target"]["decay"],
            )
            return TrainState(
                state.step, state.skipped, jnp.zeros_like(state.skipped_in_a_row),
                params, collections, opt_state, target_params, target_collections,
            )  # fmt: skip

        def skip() -> TrainState:
            return dataclasses.replace(
                state,
                skipped=state.skipped + 1,
                skipped_in_a_row=state.skipped_in_a_row + 1,
            )

        # A condition, not `where` on every leaf: that reads and writes all the state.
        kept = jax.lax.cond(finite, update, skip)
        metrics = {
            **metrics,
            "grad_norm": grad_norm,
            "learning_rate": hyper["optim"]["learning_rate"],
            "skipped": kept.skipped,
            "skipped_in_a_row": kept.skipped_in_a_row,
        }
        return dataclasses.replace(kept, step=state.step + 1), metrics

    return train_step


def _rngs(seed: Array | int, step: Array, branch: str) -> dict[str, Array]:
    """The streams of a branch in one step; nothing of them is kept between steps."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    key = jax.random.fold_in(key, BRANCHES.index(branch))
    dropout, sample = jax.random.split(key)
    return {"dropout": dropout, "sample": sample}


@functools.lru_cache(_PROGRAMS)
def make_health_fn(
    learner: Any, views: ViewMaker = identity
) -> Callable[[TrainState, Batch], Metrics]:
    """The health numbers of a batch, see `health`; `(state, batch) -> metrics`."""

    def health(state: TrainState, batch: Batch) -> Metrics:
        batch = views(batch)
        targets, _ = learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections),
            rngs=_rngs(0, state.step, "target"),
        )  # fmt: skip
        metrics, _ = learner.apply(
            state.variables, batch, targets, method="health",
            mutable=list(state.collections),
            rngs=_rngs(0, state.step, "online"),
        )  # fmt: skip
        return metrics

    return health
