"""The training step as a run compiles it: sharded, with a donated state."""

from typing import Any

import jax

from clipin_jax.core import sharding
from clipin_jax.core.step import make_train_step
from clipin_jax.runs.build import Experiment


def jit_train_step(experiment: Experiment) -> Any:
    """Returns the jitted step `(state, batch, hyper) -> (state, metrics)`.

    Calling it compiles it; `lower` it to look at the program.
    """
    step = make_train_step(experiment.learner, experiment.optimizer, experiment.views)
    shardings = experiment.state_sharding, sharding.replicated(experiment.mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=shardings)
