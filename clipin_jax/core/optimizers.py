"""The optimizer chain, decay masks and parameter bounds."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from clipin_jax.core.parameter_paths import path_name
from clipin_jax.types import Array, Hyper

Optimizer = Callable[[Hyper], optax.GradientTransformation]


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
