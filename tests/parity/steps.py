"""Training steps from the state of a golden file."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from clipin_jax.core.state import TrainState, select


class Step(NamedTuple):
    """One training step.

    Attributes:
      target_params: the averages that the step used.
      metrics: what it returned.
      state: what it left.
    """

    target_params: Any
    metrics: dict[str, Any]
    state: TrainState


def initial_state(
    params: dict,
    averages: dict,
    optimizer: Callable,
    hyper: dict,
    collections: dict,
    target_collections: dict,
) -> TrainState:
    """The state before step 1, with the reference's first average taken.

    The references average in a step, before the target is used. We average at the end
    of a step. Taken once beforehand, ours is the same sequence.
    """
    decay, zero = hyper["target"]["decay"], np.zeros((), np.int32)
    target_params = jax.tree.map(
        lambda average, value: decay * average + (1 - decay) * value,
        averages,
        select(params, averages),
    )
    return TrainState(
        step=zero, skipped=zero, skipped_in_a_row=zero, params=params,
        collections=collections, opt_state=optimizer(hyper).init(params),
        target_params=target_params, target_collections=target_collections,
    )  # fmt: skip


def take_steps(
    train_step: Callable, state: TrainState, inputs: Iterable[tuple]
) -> list[Step]:
    """Takes steps; inputs: the arguments of each step behind the state."""
    steps = []
    for arguments in inputs:
        target_params = state.target_params
        state, metrics = train_step(state, *arguments)
        steps.append(jax.device_get(Step(target_params, metrics, state)))
    return steps


def first_gradient(state: TrainState, b1: float) -> Any:
    """The gradient of step 1, from Adam's average of it after that step."""
    average = optax.tree.get(state.opt_state, "mu")
    return jax.tree.map(lambda x: x / (1 - b1), average)
