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
      target_params: those that the step used.
      metrics: those that it returned.
      state: the one that it returned.
    """

    target_params: Any
    metrics: dict[str, Any]
    state: TrainState


def initial_state(
    *,
    params: dict,
    ema: dict,
    optimizer: Callable,
    hyper: dict,
    collections: dict,
    target_collections: dict,
) -> TrainState:
    """Returns the state before step 1, after the first averaging of the reference.

    The references average at the start of a step, before they use the target. We
    average at its end. With one averaging beforehand, both use the same targets.
    """
    decay, zero = hyper["target"]["decay"], np.zeros((), np.int32)
    target_params = jax.tree.map(
        lambda average, value: decay * average + (1 - decay) * value,
        ema,
        select(params, ema),
    )
    return TrainState(
        step=zero, skipped=zero, skipped_in_a_row=zero, params=params,
        collections=collections, opt_state=optimizer(hyper).init(params),
        target_params=target_params, target_collections=target_collections,
    )  # fmt: skip


def take_steps(
    train_step: Callable, state: TrainState, inputs: Iterable[tuple]
) -> list[Step]:
    """Takes a step for each of `inputs`: its arguments after the state."""
    steps = []
    for arguments in inputs:
        target_params = state.target_params
        state, metrics = train_step(state, *arguments)
        steps.append(jax.device_get(Step(target_params, metrics, state)))
    return steps


def first_gradient(state: TrainState, b1: float) -> Any:
    """Returns the gradient of step 1, read from Adam's first moment after that step."""
    average = optax.tree.get(state.opt_state, "mu")
    return jax.tree.map(lambda x: x / (1 - b1), average)
