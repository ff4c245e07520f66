"""The training step as a run compiles it: sharded, with a donated state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.core import sharding
from clipin_jax.core.compute_copies import ComputeCopies
from clipin_jax.core.step import make_health_fn, make_train_step
from clipin_jax.errors import ClipinError, first_line
from clipin_jax.processes.joined import this_group
from clipin_jax.runs.build import Experiment

_COMPILE_SECONDS = 3600.0  # for the slowest process
# Platform -> options of XLA that a run has unless its config says otherwise.
COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    # Products of split matrices are not cut into windows, each with its own messages.
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 1_000_000},
}


def jit_train_step(experiment: Experiment) -> Any:
    """Returns the jitted step `(state, batch, hyper) -> (state, metrics)`.

    Calling it compiles it; `lower` it to look at the program.

    Raises:
      ClipinError: the compiler does not know an option of `config.compiler_options`.
    """
    step = make_train_step(
        experiment.learner,
        experiment.optimizer,
        experiment.views,
        _copies(experiment),
        micro_batches=experiment.micro_batches,
    )
    shardings = experiment.state_sharding, sharding.replicated(experiment.mesh)
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=shardings,
        compiler_options=_compiler_options(experiment),
    )


def compile_together(train_step: Any, *inputs: Any) -> Any:
    """Returns the step, compiled in all processes where there are several.

    On CPUs a collective waits for 30 s only, and a process may compile for longer.

    Args:
      train_step: from `jit_train_step`.
      inputs: of its first call.
    """
    if (group := this_group()) is None:
        return train_step
    compiled = train_step.lower(*inputs).compile()
    group.gather("compiled", True, "compile the step", _COMPILE_SECONDS)
    return compiled


def jit_health(experiment: Experiment) -> Any:
    """Returns the jitted function `(state, batch) -> health` of representations."""
    health = make_health_fn(
        experiment.learner,
        experiment.optimizer,
        experiment.views,
        micro_batches=experiment.micro_batches,
    )
    return jax.jit(health)


def _copies(experiment: Experiment) -> ComputeCopies:
    model, preset = experiment.config.model, experiment.config.sharding.preset
    is_half = jnp.dtype(model.dtype).itemsize < jnp.dtype(model.param_dtype).itemsize
    dtype = jnp.dtype(model.dtype) if is_half else None
    return ComputeCopies(dtype, gather=preset in sharding.GATHERED)


def _compiler_options(experiment: Experiment) -> dict[str, Any]:
    device = experiment.mesh.devices.flat[0]
    given = experiment.config.compiler_options.to_dict()
    if given:
        _check_options(given, experiment)
    return COMPILER_OPTIONS.get(device.platform, {}) | given


def _check_options(options: Mapping[str, Any], experiment: Experiment) -> None:
    """Compiles an empty program with options, so that a wrong one fails at once."""
    platform = experiment.mesh.devices.flat[0].platform
    place = sharding.replicated(experiment.mesh)
    x = jax.ShapeDtypeStruct((), jnp.float32, sharding=place)
    program = jax.jit(lambda x: x).trace(x).lower(lowering_platforms=(platform,))
    try:
        program.compile(dict(options))
    except (jax.errors.JaxRuntimeError, TypeError, ValueError) as error:
        raise ClipinError(
            f"the compiler for {platform} refuses compiler_options = {dict(options)}: "
            f"{first_line(error)}"
        ) from error
