"""The pure functions of training: step and health. Callers `jit` them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipin_jax.core.freezing import evaluation_mode, frozen_modules
from clipin_jax.core.learner import Learner
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_paths import Params, merge
from clipin_jax.core.state import TrainState, select
from clipin_jax.types import Array, Batch, Hyper, Metrics

BRANCHES = ("online", "target")
_PROGRAMS = 32  # functions kept, so that runs of a process share compiled programs
TrainStep = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]
ViewMaker = Callable[[Any], Batch]


def identity(batch: Batch) -> Batch:
    """Returns the batch: the `ViewMaker` of views that the host has made."""
    return batch


@functools.lru_cache(_PROGRAMS)
def make_train_step(
    learner: Learner, optimizer: Optimizer, views: ViewMaker = identity
) -> TrainStep:
    """Returns the training step as a pure function.

    The target branch runs first, without gradient, then the online branch. The
    optimizer updates the trained parameters, then the target moves towards them. If the
    loss or the gradient is not finite, only the counters change.

    Args:
      learner: from `core.learner.build`.
      optimizer: which parameters are trained, and how.
      views: makes the views of the batches that the host sends.

    Returns:
      `(state, batch, hyper) -> (state, metrics)`.
    """

    def train_step(
        state: TrainState, batch: Batch, hyper: Hyper
    ) -> tuple[TrainState, Metrics]:
        trained, frozen = optimizer.split(state.params)
        result = _run_branches(
            learner, state, views(batch), hyper, trained=trained, frozen=frozen
        )
        grad_norm = optax.tree.norm(result.gradient)

        def update() -> TrainState:
            chain = optimizer(hyper, state.params)
            updates, opt_state = chain.update(result.gradient, state.opt_state, trained)
            params = merge(optax.apply_updates(trained, updates), frozen)
            return _updated(state, result, hyper, params=params, opt_state=opt_state)

        def skip() -> TrainState:
            return dataclasses.replace(
                state,
                skipped=state.skipped + 1,
                skipped_in_a_row=state.skipped_in_a_row + 1,
            )

        finite = jnp.isfinite(result.loss) & jnp.isfinite(grad_norm)
        # `where` on every leaf would read and write all of the state.
        after = jax.lax.cond(finite, update, skip)
        metrics = {
            **result.metrics,
            "grad_norm": grad_norm,
            "learning_rate": hyper["optim"]["learning_rate"],
            "skipped": after.skipped,
            "skipped_in_a_row": after.skipped_in_a_row,
        }
        return dataclasses.replace(after, step=state.step + 1), metrics

    return train_step


class _Result(NamedTuple):
    """The results of both branches in one step."""

    loss: Array
    gradient: Params  # of the trained parameters
    metrics: Metrics
    collections: Any  # of the online branch, after the step
    target_collections: Any


def _run_branches(
    learner: Learner,
    state: TrainState,
    batch: Batch,
    hyper: Hyper,
    *,
    trained: Params,
    frozen: Params,
) -> _Result:
    """Runs the target branch, then the online branch with its gradient."""
    with evaluation_mode(frozen_modules(trained, frozen)):
        targets, target_collections = learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections),
            rngs=_rngs(hyper["seed"], state.step, "target"),
        )  # fmt: skip

        def loss_fn(trained: Params) -> tuple[Array, tuple[Metrics, Any]]:
            (loss, metrics), collections = learner.apply(
                {"params": merge(trained, frozen), **state.collections},
                batch, targets, hyper, mutable=list(state.collections),
                rngs=_rngs(hyper["seed"], state.step, "online"),
            )  # fmt: skip
            return loss, (metrics, collections)

        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (metrics, collections)), gradient = gradient_fn(trained)
    return _Result(
        loss=loss,
        gradient=gradient,
        metrics=metrics,
        collections=collections,
        target_collections=target_collections,
    )


def _updated(
    state: TrainState, result: _Result, hyper: Hyper, *, params: Params, opt_state: Any
) -> TrainState:
    """Returns the state after an update, with the target moved towards `params`."""
    target_params = optax.incremental_update(
        select(params, state.target_params),
        state.target_params,
        1 - hyper["target"]["decay"],
    )
    return TrainState(
        step=state.step,
        skipped=state.skipped,
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        params=params,
        collections=result.collections,
        opt_state=opt_state,
        target_params=target_params,
        target_collections=result.target_collections,
    )


def _rngs(seed: Array | int, step: Array, branch: str) -> dict[str, Array]:
    """Returns the random streams of a branch in one step."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    key = jax.random.fold_in(key, BRANCHES.index(branch))
    dropout, sample = jax.random.split(key)
    return {"dropout": dropout, "sample": sample}


@functools.lru_cache(_PROGRAMS)
def make_health_fn(
    learner: Learner, optimizer: Optimizer, views: ViewMaker = identity
) -> Callable[[TrainState, Batch], Metrics]:
    """Returns `(state, batch) -> metrics`, the health metrics of a batch.

    See `objectives.health`; the arguments are those of `make_train_step`.
    """

    def health(state: TrainState, batch: Batch) -> Metrics:
        batch = views(batch)
        with evaluation_mode(frozen_modules(*optimizer.split(state.params))):
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
