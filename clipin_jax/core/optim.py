"""Schedules, the optimizer chain, decay masks and parameter bounds.

A schedule is computed on the host and its value enters the step as an array. So a
sweep over learning rates or loss weights compiles the step once, and the step holds no
schedule.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.types import Array, Hyper

Optimizer = Callable[[Hyper], optax.GradientTransformation]


def constant(step: int, *, value: float) -> float:
    """The same value in every step."""
    return value


def cosine(step: int, *, start: float, end: float, total_steps: int) -> float:
    """Half a cosine from `start` at step 0 to `end` at `total_steps` (BYOL's decay)."""
    share = min(step / total_steps, 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmup_cosine(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, end: float
) -> float:
    """Linear from peak/warmup_steps, then a cosine to `end` (open_clip and CLIPin)."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    remaining = max(total_steps - warmup_steps, 1)
    return cosine(step - warmup_steps, start=peak, end=end, total_steps=remaining)


def linear(step: int, *, start: float, end: float, total_steps: int) -> float:
    """A straight line from `start` at step 0 to `end` at `total_steps`, then flat."""
    return start + (end - start) * min(step / total_steps, 1.0)


SCHEDULES = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
}


def make_schedule(where: str, spec: Any) -> Callable[[int], float]:
    """A number, or a dict with `schedule` and its arguments, to step -> value.

    Raises:
      ClipinError: neither a number nor a known schedule with its arguments.
    """
    if isinstance(spec, (int, float)):
        spec = {"schedule": "constant", "value": spec}
    if not isinstance(spec, (Mapping, ConfigDict)) or "schedule" not in spec:
        raise ClipinError(
            f"{where} is {spec!r}: give a number or a schedule, one of "
            f"{sorted(SCHEDULES)}"
        )
    arguments = dict(spec.items())
    name = arguments.pop("schedule")
    if name not in SCHEDULES:
        raise ClipinError(f"{where}: schedule {name!r} is none of {sorted(SCHEDULES)}")
    schedule = SCHEDULES[name]
    try:
        schedule(0, **arguments)
    except TypeError as error:
        raise ClipinError(f"{where}: {error}") from error
    return lambda step: schedule(step, **arguments)


def make_hyper(config: ConfigDict, objectives: Mapping[str, Any]) -> Callable:
    """Step -> the numbers of that step, as `types.Hyper`.

    Args:
      config: `seed`; `optim.learning_rate`, `optim.weight_decay`, `target.decay` and
        the scalars of each objective are numbers or schedules; a scalar that is not
        there has its class's default.
      objectives: name to objective, for `scalars`.

    Raises:
      ClipinError: a value that is no schedule.
    """
    specs = {
        "optim": {k: config.optim[k] for k in ("learning_rate", "weight_decay")},
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

    def hyper(step: int) -> Hyper:
        dtype = jax.dtypes.canonicalize_dtype(float)
        numbers = {
            where: {k: np.asarray(f(step), dtype) for k, f in group.items()}
            for where, group in schedules.items()
        }
        return {
            "seed": np.asarray(config.seed, np.uint32),
            "optim": numbers["optim"],
            "target": numbers["target"],
            "objectives": {name: numbers[f"objectives.{name}"] for name in objectives},
        }

    return hyper


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path as text: `towers/image/patch_embed/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW with clipping, a decay mask and bounds, for the numbers of a step.

    Called, it is an optax chain whose state does not depend on those numbers.

    Attributes:
      clip_norm: of the global gradient; 0 for off.
      no_decay: regular expressions of the paths of parameters without weight decay.
      bounds: (expression, low, high) of the parameters that stay within.
    """

    b1: float
    b2: float
    eps: float
    clip_norm: float
    no_decay: tuple[re.Pattern, ...]
    bounds: tuple[tuple[re.Pattern, float, float], ...]

    def __call__(self, hyper: Hyper) -> optax.GradientTransformation:
        """hyper: this step's learning rate and weight decay."""
        numbers = hyper["optim"]
        clip = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else None
        return optax.chain(
            clip or optax.identity(),
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(numbers["weight_decay"], self._decayed),
            optax.scale_by_learning_rate(numbers["learning_rate"]),
            keep_within(self.bounds),
        )

    def _decayed(self, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: not any(p.search(path_name(path)) for p in self.no_decay),
            params,
        )


def make_optimizer(config: ConfigDict) -> Optimizer:
    """The optimizer that `config.optim` describes; see `AdamW` for its keys."""
    return AdamW(
        config.b1,
        config.b2,
        config.eps,
        config.clip_norm,
        tuple(re.compile(pattern) for pattern in config.no_decay),
        tuple((re.compile(path), low, high) for path, low, high in config.bounds),
    )


def keep_within(
    bounds: Sequence[tuple[re.Pattern, float, float]],
) -> optax.GradientTransformation:
    """Shortens updates so that the named parameters stay in [low, high].

    Last in the chain: the bound holds for the parameter after the step.
    """

    def limit(path: tuple[Any, ...], update: Array, parameter: Array) -> Array:
        for pattern, low, high in bounds:
            if pattern.search(path_name(path)):
                return jnp.clip(parameter + update, low, high) - parameter
        return update

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree_util.tree_map_with_path(limit, updates, params), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)
