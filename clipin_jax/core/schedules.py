"""Schedules: the hyper-parameters of a step, computed on the host.

They enter the step as arrays. So a sweep over learning rates or loss weights compiles
the step once, and the step contains no schedule.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax import registry
from clipin_jax.errors import ClipinError, explained
from clipin_jax.types import Hyper


def constant(step: int, *, value: float) -> float:
    """Returns the same value in every step.

    Args:
      step: from 0.
      value: of all steps.
    """
    return value


def cosine(step: int, *, start: float, end: float, total_steps: int) -> float:
    """Returns half a cosine from `start` to `end` at `total_steps` (BYOL's decay).

    Args:
      step: from 0.
      start: value at step 0.
      end: value at `total_steps` and after it.
      total_steps: length of the change.
    """
    share = min(step / total_steps, 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmup_cosine(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, end: float
) -> float:
    """Returns a linear warmup to `peak`, then a cosine to `end` (open_clip, CLIPin).

    Args:
      step: from 0.
      peak: the largest value, at the end of the warmup.
      warmup_steps: steps of the rise from 0.
      total_steps: length of warmup and cosine together.
      end: value at `total_steps` and after it.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    remaining = max(total_steps - warmup_steps, 1)
    return cosine(step - warmup_steps, start=peak, end=end, total_steps=remaining)


def linear(step: int, *, start: float, end: float, total_steps: int) -> float:
    """Returns a line from `start` to `end` at `total_steps`, then `end`.

    Args:
      step: from 0.
      start: value at step 0.
      end: value at `total_steps` and after it.
      total_steps: length of the change.
    """
    return start + (end - start) * min(step / total_steps, 1.0)


SCHEDULES = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
}


def make_schedule(where: str, spec: Any) -> Callable[[int], float]:
    """Returns step -> value.

    Args:
      where: the config key, for messages.
      spec: a number, or a dict with `schedule`, which is a name in `SCHEDULES` or
        "module:function", and the arguments of that function after `step`.

    Raises:
      ClipinError: neither a number nor a known schedule with its arguments.
    """
    is_number = isinstance(spec, (int, float)) and not isinstance(spec, bool)
    named: Any = {"schedule": "constant", "value": spec} if is_number else spec
    if not isinstance(named, (Mapping, ConfigDict)) or "schedule" not in named:
        raise ClipinError(
            f"{where} is {spec!r}: give a number or a schedule, one of "
            f"{sorted(SCHEDULES)}"
        )
    arguments = dict(named.items())
    name = arguments.pop("schedule")
    schedule = registry.find(SCHEDULES, name, f"{where}.schedule")
    registry.check_arguments(schedule, arguments, where, given=1)
    if (steps := arguments.get("total_steps", 1)) < 1:
        raise ClipinError(f"{where}.total_steps is {steps}: it must be at least 1")

    def value(step: int) -> float:
        with explained(f"{where}: schedule {name!r} has no value at step {step}"):
            return float(schedule(step, **arguments))

    value(0)
    return value


def make_hyper(config: ConfigDict, objectives: Mapping[str, Any]) -> Callable:
    """Returns step -> hyper-parameters of that step, as `types.Hyper`.

    Args:
      config: has `seed`. `optim.learning_rate`, `optim.weight_decay`, `target.decay`
        and the scalars of each objective are numbers or schedules; a missing scalar
        has the default of its class.
      objectives: name -> objective, for `scalars`.

    Raises:
      ClipinError: a value that is neither a number nor a schedule.
    """
    if "learning_rate" not in config.optim:
        raise ClipinError("optim.learning_rate is missing: give a number or a schedule")
    specs = {
        "optim": {
            "learning_rate": config.optim.learning_rate,
            "weight_decay": config.optim.get("weight_decay", 0.0),
        },
        "target": {"decay": config.target.decay},
    }
    for name, objective in objectives.items():
        spec = config.objectives[name]
        values = {k: spec.get(k, default) for k, default in objective.scalars.items()}
        given = {k: v for k, v in values.items() if v != "learned"}
        specs[f"objectives.{name}"] = given
    schedules = {
        where: {k: make_schedule(f"{where}.{k}", v) for k, v in group.items()}
        for where, group in specs.items()
    }

    seed = _fold_seed(config.seed)

    def hyper(step: int) -> Hyper:
        dtype = jax.dtypes.canonicalize_dtype(float)
        numbers = {
            where: {k: np.asarray(f(step), dtype) for k, f in group.items()}
            for where, group in schedules.items()
        }
        return {
            "seed": np.asarray(seed, np.uint32),
            "optim": numbers["optim"],
            "target": numbers["target"],
            "objectives": {name: numbers[f"objectives.{name}"] for name in objectives},
        }

    return hyper


def _fold_seed(seed: int) -> int:
    """Returns a seed of 32 bits; larger ones, such as a time in ns, are hashed."""
    if seed < 2**32:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
