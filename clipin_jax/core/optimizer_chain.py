"""The optimizer of a run: a rule with clipping, decay, rates, groups and bounds."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import FrozenDict
from ml_collections import ConfigDict
from optax import GradientTransformation

from clipin_jax import registry
from clipin_jax.core.hashable import hashable
from clipin_jax.core.lora import Lora
from clipin_jax.core.optimizers import OPTIMIZERS, Rule, direction
from clipin_jax.core.parameter_groups import (
    Group,
    LayerOrder,
    check_groups,
    group_of,
    layer_factors,
    make_groups,
)
from clipin_jax.core.parameter_paths import (
    Params,
    compile_pattern,
    map_paths,
    paths_of,
    split,
)
from clipin_jax.errors import ClipinError, describe_error, shorten
from clipin_jax.types import Array, Hyper

Bound = tuple[re.Pattern[str], float, float]
_TRIED = 3  # steps on a small tree; a rule with a warm-up may begin with 0
_BOUND = "tuples (pattern, low, high)"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A rule with clipping, decay, rates, groups and bounds.

    Called with the hyper-parameters of a step, it returns an optax transformation of
    the trained parameters, whose state does not depend on them. Equal optimizers have
    equal hashes, so that runs share compiled programs.

    Attributes:
      rule: turns gradients into a direction, see `optimizers`.
      arguments: of the rule.
      clip_norm: of the global gradient; 0 for off.
      no_decay: patterns of the paths of parameters without weight decay.
      bounds: (pattern, low, high) of parameters that are kept within limits.
      groups: rates, decay, clipping and freezing by path; the first match counts.
      layer_decay: factor on the learning rate per layer, see `layer_factors`.
      layer_order: the depth of parameters, for `layer_decay`.
      lora: low-rank factors of towers, of which everything else is frozen.
    """

    rule: Rule
    arguments: FrozenDict[str, Any] = FrozenDict()
    clip_norm: float = 0.0
    no_decay: tuple[re.Pattern[str], ...] = ()
    bounds: tuple[Bound, ...] = ()
    groups: tuple[Group, ...] = ()
    layer_decay: float = 1.0
    layer_order: LayerOrder = ()
    lora: tuple[Lora, ...] = ()

    def __call__(
        self, hyper: Hyper, model: Params | None = None
    ) -> GradientTransformation:
        """Returns the transformation of a step.

        Args:
          hyper: has the learning rate and the weight decay of the step.
          model: all parameters, also frozen ones, to count layers for `layer_decay`;
            None if all are trained.
        """
        scalars = hyper["optim"]
        decay = add_decayed_weights(scalars["weight_decay"], self._decay_factor)
        return optax.chain(
            self._clip(),
            direction(self.rule, decay, self.arguments),
            descend(
                scalars["learning_rate"],
                lambda params: self._rate_factors(params if model is None else model),
            ),
            keep_within(self.bounds),
        )

    def split(self, params: Params) -> tuple[Params, Params]:
        """Returns the trained and the frozen part of a tree of parameters."""
        if not (self.lora or any(group.freeze for group in self.groups)):
            return params, {}
        return split(params, lambda path: not self.is_frozen(path))

    def is_frozen(self, path: str) -> bool:
        """Whether a parameter has no gradient, no optimizer state and no update."""
        if any(lora.freezes(path) for lora in self.lora):
            return True
        return group_of(path, self.groups).freeze

    def check(self, params: Params) -> None:
        """Checks the groups against a model's parameters, or their shapes.

        Raises:
          ClipinError: see `check_groups`, `Lora.check_paths` and `layer_factors`.
        """
        check_groups(self.groups, params)
        for lora in self.lora:
            lora.check_paths(params, self.is_frozen)
        self._rate_factors(params)

    def _decay_factor(self, path: str) -> float:
        if any(pattern.search(path) for pattern in self.no_decay):
            return 0.0
        return group_of(path, self.groups).weight_decay

    def _rate_factors(self, params: Params) -> dict[str, Any]:
        layers: dict[str, Any] = {}
        if self.layer_decay != 1:
            layers = layer_factors(params, self.layer_decay, self.layer_order)
        return {
            path: group_of(path, self.groups).learning_rate * layers.get(path, 1.0)
            for path in paths_of(params)
        }

    def _clip(self) -> GradientTransformation:
        """Clips gradients by their norm; groups with a limit are clipped separately."""
        separate = [group for group in self.groups if group.clip_norm is not None]
        if not separate:
            clip = optax.clip_by_global_norm(self.clip_norm)
            return clip if self.clip_norm else optax.identity()
        limits = [(group, group.clip_norm) for group in separate]
        return optax.chain(
            *(
                optax.masked(
                    optax.clip_by_global_norm(limit),
                    functools.partial(self._members, group),
                )
                for group, limit in [*limits, (None, self.clip_norm)]
                if limit
            )
        )

    def _members(self, group: Group | None, params: Params) -> Params:
        """Marks the parameters that are clipped with a group; None for the others."""

        def is_member(path: str, _: Any) -> bool:
            first = group_of(path, self.groups)
            return first is group if group else first.clip_norm is None

        return map_paths(is_member, params)


SHARED = ("name", "learning_rate", "weight_decay") + tuple(
    field.name
    for field in dataclasses.fields(Optimizer)
    if field.name not in ("rule", "arguments", "layer_order", "lora")
)
"""The keys of `config.optim` that every optimizer has; others belong to a rule."""


def make_optimizer(
    config: ConfigDict,
    layer_order: Mapping[str, Sequence[str]] | None = None,
    lora: tuple[Lora, ...] = (),
) -> Optimizer:
    """Builds the optimizer that `config.optim` describes.

    Args:
      config: `name` in `OPTIMIZERS` or "module:function" (default adamw); the keys of
        `SHARED`, as in `Optimizer`; all others are arguments of the rule.
      layer_order: path of a tower to its `layer_order`, for `layer_decay`.
      lora: low-rank factors of towers.

    Raises:
      ClipinError: an unknown name, argument or option, or a value that it cannot have.
    """
    name = config.get("name", "adamw")
    rule = registry.find(OPTIMIZERS, name, "optim.name")
    arguments = {k: v for k, v in config.items() if k not in SHARED}
    registry.check_arguments(rule, arguments, "optim", given=1, also=SHARED)
    optimizer = Optimizer(
        rule,
        hashable(arguments),
        clip_norm=_number(config, "clip_norm", 0.0),
        no_decay=tuple(
            compile_pattern(pattern, "optim.no_decay")
            for pattern in _items(config, "no_decay", "patterns")
        ),
        bounds=tuple(_make_bound(bound) for bound in _items(config, "bounds", _BOUND)),
        groups=make_groups(config.get("groups", ())),
        layer_decay=_number(config, "layer_decay", 1.0, most=1.0),
        layer_order=tuple((k, tuple(v)) for k, v in (layer_order or {}).items()),
        lora=lora,
    )
    _try(optimizer, name)
    return optimizer


def _number(
    config: ConfigDict, key: str, default: float, most: float = math.inf
) -> float:
    value = config.get(key, default)
    if isinstance(value, (int, float)) and 0 <= value <= most:
        return value
    limits = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
    raise ClipinError(f"optim.{key} is {value!r}: give a number {limits}")


def _items(config: ConfigDict, key: str, form: str) -> Sequence[Any]:
    value = config.get(key, ())
    if isinstance(value, (list, tuple)):
        return value
    raise ClipinError(f"optim.{key} is {value!r}: give a list of {form}")


def _make_bound(bound: Any) -> Bound:
    if not isinstance(bound, (list, tuple)) or len(bound) != 3:
        raise ClipinError(f"optim.bounds has {bound!r}: give {_BOUND}")
    pattern, low, high = bound
    if not all(isinstance(x, (int, float)) for x in (low, high)) or not low <= high:
        raise ClipinError(
            f"optim.bounds has {bound!r}: give numbers low and high, low <= high"
        )
    return compile_pattern(pattern, "optim.bounds"), low, high


@functools.lru_cache(64)
def _try(optimizer: Optimizer, name: str) -> None:
    """Takes a few steps on a small tree, to raise errors of the rule's arguments."""

    def steps(params: Params) -> list[Params]:
        rule = direction(
            optimizer.rule, optax.add_decayed_weights(0.0), optimizer.arguments
        )
        gradients, state, directions = params, rule.init(params), []
        for _ in range(_TRIED):
            update, state = rule.update(gradients, state, params)
            directions.append(update)
        return directions

    shapes = {"kernel": (2, 2), "bias": (2,)}
    params = {key: jnp.full(shape, 0.5) for key, shape in shapes.items()}
    try:
        directions = jax.jit(steps)(params)  # one program, not one for each operation
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(directions)])
    except ClipinError:
        raise
    except Exception as error:  # whatever an optimizer raises
        raise ClipinError(
            f"optim.name {name!r} cannot be built from "
            f"{shorten(str(dict(optimizer.arguments)))}: {describe_error(error)}"
        ) from error
    if not np.all(np.isfinite(flat)) or np.sum(flat) <= 0:  # all gradients are positive
        raise ClipinError(
            f"optim.name {name!r} with {dict(optimizer.arguments)} does not descend: "
            f"for gradients of 0.5 its first directions are {flat[0]:g}, and must be "
            "positive (see clipin_jax/core/optimizers.py)"
        )


def add_decayed_weights(
    weight_decay: Array, factor: Callable[[str], float]
) -> GradientTransformation:
    """Adds the parameters times the decay and a factor, by path, to the updates."""

    def add(path: str, update: Array, parameter: Array) -> Array:
        share = factor(path)
        return update + weight_decay * share * parameter if share else update

    return optax.stateless(lambda updates, params: map_paths(add, updates, params))


def descend(
    learning_rate: Array, factors: Callable[[Params], Mapping[str, Any]]
) -> GradientTransformation:
    """Multiplies updates by the negative learning rate and a factor, by path."""

    def scale(updates: Params, params: Params) -> Params:
        shares = factors(params)
        return map_paths(lambda path, x: -learning_rate * shares[path] * x, updates)

    return optax.stateless(scale)


def keep_within(bounds: Sequence[Bound]) -> GradientTransformation:
    """Shortens updates so that the named parameters stay in [low, high].

    It must be last in the chain, so that the bound holds after the step.
    """

    def limit(path: str, update: Array, parameter: Array) -> Array:
        for pattern, low, high in bounds:
            if pattern.search(path):
                return jnp.clip(parameter + update, low, high) - parameter
        return update

    return optax.stateless(lambda updates, params: map_paths(limit, updates, params))
