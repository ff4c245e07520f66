"""What a training step of each method costs: time, memory, arithmetic, parameters.

The methods take turns, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.core import sharding
from clipin_jax.core.step import make_train_step
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.runs.build import build_experiment
from clipin_jax.study.contender import Contender, compiled_contender, ratio

ROUNDS = 7
STEPS = 5  # in a row


def step_costs(
    configs: Mapping[str, ConfigDict], baselines: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Costs by method, on the first device.

    Args:
      configs: method -> config.
      baselines: method -> the one whose costs it is divided by; itself if it is one.

    Returns:
      Per method `step_ms` (the fastest round), `ratio` (the median over rounds) and
      `flops_ratio` (of the arithmetic that the compiler counts: the floor of the time),
      `peak_mib` (arguments, outputs and temporaries) and `million_params` (trained).
    """
    made = {name: contender_of(config) for name, config in configs.items()}
    turns = [contender for contender, _ in made.values()]
    for contender in turns:
        contender.step()  # the first is not counted
        contender.wait()
    for _ in range(ROUNDS):
        for contender in turns:
            contender.run(STEPS)
        turns.reverse()
    costs = {}
    for name, (contender, params) in made.items():
        base = made[baselines.get(name, name)][0]
        costs[name] = {
            "step_ms": round(1000 * min(contender.seconds), 2),
            "ratio": ratio(contender.seconds, base.seconds),
            "flops_ratio": round(contender.flops / base.flops, 3),
            "peak_mib": round(contender.peak_mib() or 0, 1),
            "million_params": round(params / 1e6, 3),
        }
    return costs


def contender_of(config: ConfigDict) -> tuple[Contender, int]:
    """The training step on a real batch, and how many parameters it trains."""
    run = build_experiment(config, jax.devices()[:1])
    batches = TrainBatches(config.data, seed=config.seed, batch_size=config.batch_size)
    batch: Any = next(batches)
    batches.close()
    del batch["index"]
    with jax.set_mesh(run.mesh):
        inputs = (sharding.put(batch, run.mesh), run.hyper(0))
        step = make_train_step(run.learner, run.optimizer, run.views)
        lowered = jax.jit(step).lower(run.abstract_state, *inputs)
        flops = (lowered.cost_analysis() or {})["flops"]
        made = compiled_contender(step, run.init_state(), inputs, flops)
    return made, run.num_params
