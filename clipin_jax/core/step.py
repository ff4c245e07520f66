"""The pure functions of training: step and health. Callers `jit` them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipin_jax.core.compute_copies import ComputeCopies
from clipin_jax.core.freezing import evaluation_mode, frozen_modules
from clipin_jax.core.learner import Learner
from clipin_jax.core.micro_batches.pair_objectives import Rngs, pair_inputs
from clipin_jax.core.micro_batches.passes import Pieces, online_inputs, target_inputs
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.parameter_paths import Params, merge
from clipin_jax.core.state import TrainState, select
from clipin_jax.types import Array, Batch, Hyper, Metrics, Pooled

BRANCHES = ("online", "target")
NO_COPIES = ComputeCopies()
# Scopes of a step in profiles, besides the modules of the learner.
VIEWS, OPTIMIZER = "views", "optimizer"
_PROGRAMS = 32  # functions kept, so that runs of a process share compiled programs
TrainStep = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]
ViewMaker = Callable[[Any], Batch]


def identity(batch: Batch) -> Batch:
    """Returns the batch: the `ViewMaker` of views that the host has made."""
    return batch


@functools.lru_cache(_PROGRAMS)
def make_train_step(
    learner: Learner,
    optimizer: Optimizer,
    views: ViewMaker = identity,
    copies: ComputeCopies = NO_COPIES,
    *,
    micro_batches: int = 1,
) -> TrainStep:
    """Returns the training step as a pure function.

    The target branch runs first, without gradient, then the online branch. The
    optimizer updates the trained parameters, then the target moves towards them. If the
    loss or the gradient is not finite, only the counters change.

    Args:
      learner: from `core.learner.build`.
      optimizer: which parameters are trained, and how.
      views: makes the views of the batches that the host sends.
      copies: makes the copies of parameters that both branches compute with.
      micro_batches: pieces of a device's rows, which the towers run on one by one; see
        `core.micro_batches`.

    Returns:
      `(state, batch, hyper) -> (state, metrics)`.
    """

    def train_step(
        state: TrainState, batch: Batch, hyper: Hyper
    ) -> tuple[TrainState, Metrics]:
        with jax.named_scope(VIEWS):
            batch = views(batch)
        trained, frozen = optimizer.split(state.params)
        with evaluation_mode(frozen_modules(trained, frozen)):
            target = _target_branch(state, hyper["seed"], copies)
            targets, target_collections = _targets(
                learner, state, batch, target, micro_batches
            )
            rngs = _rngs(hyper["seed"], state.step, "online")

            def loss_fn(
                trained: Params, pooled: Pooled | None = None
            ) -> tuple[Array, tuple[Metrics, Any]]:
                (loss, metrics), collections = learner.apply(
                    {"params": copies(merge(trained, frozen)), **state.collections},
                    batch, targets, hyper, pooled=pooled,
                    mutable=list(state.collections), rngs=rngs,
                )  # fmt: skip
                return loss, (metrics, collections)

            pairs = pair_inputs(learner, batch, hyper, *target)
            inputs = online_inputs(learner, batch)
            pieces = Pieces(learner, micro_batches, inputs, rngs, pairs)
            fixed = {"params": frozen, **state.collections}
            gradient = pieces.value_and_grad(loss_fn, fixed, copies)
            (loss, (metrics, collections)), grads = gradient(trained)
        seen = dataclasses.replace(
            state, collections=collections, target_collections=target_collections
        )
        new, numbers = _update_if_finite(
            optimizer, state, seen, loss=loss, grads=grads, hyper=hyper
        )
        return new, {**metrics, **numbers}

    return train_step


def _target_branch(
    state: TrainState, seed: Array | int, copies: ComputeCopies = NO_COPIES
) -> tuple[dict[str, Any], Rngs]:
    """Returns the variables that the target branch computes with, and its streams."""
    variables = state.target_variables
    variables["params"] = copies(variables["params"])
    return variables, _rngs(seed, state.step, "target")


def _targets(
    learner: Learner,
    state: TrainState,
    batch: Batch,
    target: tuple[dict[str, Any], Rngs],
    micro_batches: int,
) -> tuple[Any, Any]:
    """Returns the targets of a batch, and the new collections of the target branch."""
    variables, rngs = target
    pieces = Pieces(learner, micro_batches, target_inputs(learner, batch), rngs)
    return learner.apply(
        variables, batch, method="targets", pooled=pieces.pool(variables),
        mutable=list(state.target_collections), rngs=rngs,
    )  # fmt: skip


def _update_if_finite(
    optimizer: Optimizer,
    state: TrainState,
    seen: TrainState,
    *,
    loss: Array,
    grads: Params,
    hyper: Hyper,
) -> tuple[TrainState, Metrics]:
    """Returns the next state, and metrics of the update.

    Args:
      optimizer: of the trained parameters.
      state: before the step, which an update that is left out keeps.
      seen: the same with the new collections.
      loss, grads: of the batch.
      hyper: of the step.
    """
    grad_norm = optax.tree.norm(grads)
    # A condition, not `where` on every leaf: that reads and writes all the state.
    new = jax.lax.cond(
        jnp.isfinite(loss) & jnp.isfinite(grad_norm),
        lambda: _update(optimizer, seen, grads, hyper),
        lambda: _skip(state),
    )
    metrics = {
        "grad_norm": grad_norm,
        "learning_rate": hyper["optim"]["learning_rate"],
        "skipped": new.skipped,
        "skipped_in_a_row": new.skipped_in_a_row,
    }
    return dataclasses.replace(new, step=state.step + 1), metrics


def _update(
    optimizer: Optimizer, state: TrainState, grads: Params, hyper: Hyper
) -> TrainState:
    """Moves the trained parameters, then the target's towards them."""
    trained, frozen = optimizer.split(state.params)
    with jax.named_scope(OPTIMIZER):
        updates, opt_state = optimizer(hyper, state.params).update(
            grads, state.opt_state, trained
        )
        params = merge(optax.apply_updates(trained, updates), frozen)
        target_params = optax.incremental_update(
            select(params, state.target_params),
            state.target_params,
            1 - hyper["target"]["decay"],
        )
    return dataclasses.replace(
        state,
        skipped_in_a_row=jnp.zeros_like(state.skipped_in_a_row),
        params=params,
        opt_state=opt_state,
        target_params=target_params,
    )


def _skip(state: TrainState) -> TrainState:
    """Counts an update that is left out."""
    return dataclasses.replace(
        state,
        skipped=state.skipped + 1,
        skipped_in_a_row=state.skipped_in_a_row + 1,
    )


def _rngs(seed: Array | int, step: Array, branch: str) -> Rngs:
    """Returns the random streams of a branch in one step, a function of these alone."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    key = jax.random.fold_in(key, BRANCHES.index(branch))
    dropout, sample = jax.random.split(key)
    return {"dropout": dropout, "sample": sample}


@functools.lru_cache(_PROGRAMS)
def make_health_fn(
    learner: Learner,
    optimizer: Optimizer,
    views: ViewMaker = identity,
    *,
    micro_batches: int = 1,
) -> Callable[[TrainState, Batch], Metrics]:
    """Returns the health numbers of a batch as `(state, batch) -> metrics`.

    See `objectives.health`; the arguments are those of `make_train_step`.
    """

    def health(state: TrainState, batch: Batch) -> Metrics:
        batch = views(batch)
        with evaluation_mode(frozen_modules(*optimizer.split(state.params))):
            target = _target_branch(state, 0)
            targets, _ = _targets(learner, state, batch, target, micro_batches)
            rngs = _rngs(0, state.step, "online")
            pieces = Pieces(learner, micro_batches, online_inputs(learner, batch), rngs)
            metrics, _ = learner.apply(
                state.variables, batch, targets, method="health",
                pooled=pieces.pool(state.variables),
                mutable=list(state.collections), rngs=rngs,
            )  # fmt: skip
        return metrics

    return health
