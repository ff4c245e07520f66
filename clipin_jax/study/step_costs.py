"""The costs of a training step of each method: time, memory, arithmetic, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.config import from_json
from clipin_jax.core import sharding
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from clipin_jax.study.timed_step import (
    TimedStep,
    compile_timed_step,
    median_ratio,
    take_turns,
)
from clipin_jax.sweep.processes.tasks import output_to

ROUNDS = 7
STEPS = 5  # in a row


def measure_costs(
    configs: Mapping[str, ConfigDict],
    baselines: Mapping[str, str],
    rounds: int = ROUNDS,
) -> dict[str, dict[str, float]]:
    """Measures the steps of all methods on the first device.

    Args:
      configs: method -> config.
      baselines: method -> the method by whose costs its costs are divided; absent for
        a method that is compared with itself.
      rounds: in which each method has a turn.

    Returns:
      Of each method `step_ms` (of the fastest round), `ratio` (of the times, the
      median over the rounds), `flops_ratio` (of the arithmetic that the compiler
      counts, a lower bound of the time), `peak_mib` (arguments, outputs and
      temporaries) and `million_params` (trained).
    """
    built = {name: timed_step_of(config) for name, config in configs.items()}
    timed_steps = [timed for timed, _ in built.values()]
    for timed in timed_steps:
        timed.warm_up()
    for _ in take_turns(timed_steps, rounds=rounds, steps=STEPS):
        pass
    costs = {}
    for name, (timed, params) in built.items():
        base = built[baselines.get(name, name)][0]
        costs[name] = {
            "step_ms": round(1000 * min(timed.seconds), 2),
            "ratio": median_ratio(timed.seconds, base.seconds),
            "flops_ratio": round(timed.flops / base.flops, 3),
            "peak_mib": round(timed.peak_mib() or 0, 1),
            "million_params": round(params / 1e6, 3),
        }
    return costs


def measure_in_process(
    configs: Mapping[str, str], baselines: Mapping[str, str], log: Path
) -> dict[str, dict[str, float]]:
    """Returns the costs of `measure_costs`: a task of a process of the study.

    Args:
      configs: method -> config, as written by `to_json`.
      baselines: as for `measure_costs`.
      log: the file for what is printed.
    """
    with output_to(log):
        loaded = {name: from_json(text).lock() for name, text in configs.items()}
        return measure_costs(loaded, baselines)


def timed_step_of(config: ConfigDict) -> tuple[TimedStep, int]:
    """Returns the training step on a real batch, and the number of parameters."""
    experiment = build_experiment(config, jax.devices()[:1])
    batches = TrainBatches(config.data, seed=config.seed, batch_size=config.batch_size)
    batch: Any = next(batches)
    batches.close()
    del batch["index"]
    with jax.set_mesh(experiment.mesh):
        inputs = sharding.put(batch, experiment.mesh), experiment.hyper(0)
        step = jit_train_step(experiment)
        timed = compile_timed_step(step, experiment.init_state(), inputs)
    return timed, experiment.num_params
