"""Parameter groups: rates, decay, clipping and freezing by path; layer-wise decay."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.core.parameter_paths import (
    Params,
    compile_pattern,
    map_paths,
    paths_of,
    require_match,
)
from clipin_jax.errors import ClipinError, did_you_mean

WHERE = "optim.groups"
# The path of a tower, and its `layer_order`.
LayerOrder = tuple[tuple[str, tuple[str, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Settings of `optim.groups` for the parameters that a pattern matches.

    Attributes:
      pattern: searched in the path of a parameter; a stack of scanned layers is one
        parameter.
      learning_rate: factor on the learning rate.
      weight_decay: factor on the weight decay.
      clip_norm: norm to which the gradient of the group is clipped separately; 0 for no
        clipping; None to clip it with all others.
      freeze: whether to have no gradient, no optimizer state and no update.
    """

    pattern: re.Pattern[str]
    learning_rate: float = 1.0
    weight_decay: float = 1.0
    clip_norm: float | None = None
    freeze: bool = False


EVERYTHING = Group(re.compile(""))
"""The group of parameters that no rule matches."""


def make_groups(rules: Sequence[Any]) -> tuple[Group, ...]:
    """Builds the groups from `optim.groups`, pairs of a pattern and a dict.

    Raises:
      ClipinError: a rule of another form, a pattern that is no regular expression, an
        unknown option, or a value that it cannot have.
    """
    if not isinstance(rules, (list, tuple)):
        raise ClipinError(f"{WHERE} is {rules!r}: give pairs of a pattern and a dict")
    return tuple(_make_group(f"{WHERE}[{i}]", rule) for i, rule in enumerate(rules))


def _make_group(where: str, rule: Any) -> Group:
    pair = rule if isinstance(rule, (list, tuple)) else ()
    if len(pair) != 2 or not isinstance(pair[1], Mapping):
        raise ClipinError(
            f"{where} is {rule!r}: give a pair such as ('^towers/image/', "
            "dict(learning_rate=0.1))"
        )
    pattern, options = compile_pattern(pair[0], where), dict(pair[1])
    known = [field.name for field in dataclasses.fields(Group)[1:]]
    for name, value in options.items():
        if name not in known:
            raise ClipinError(f"{where}.{name} is unknown: {did_you_mean(name, known)}")
        _check_value(f"{where}.{name}", name, value)
    if options.get("freeze") and len(options) > 1:
        raise ClipinError(f"{where} freezes {pair[0]!r}: leave its other options out")
    return Group(pattern, **options)


def _check_value(where: str, name: str, value: Any) -> None:
    if name == "freeze":
        right, kind = isinstance(value, bool), "True or False"
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        right, kind = number and value >= 0, "a number of at least 0"
    if not right:
        raise ClipinError(f"{where} is {value!r}: give {kind}")


def group_of(path: str, groups: Sequence[Group]) -> Group:
    """Returns the first group whose pattern matches the path."""
    return next((g for g in groups if g.pattern.search(path)), EVERYTHING)


def check_groups(groups: Sequence[Group], params: Params) -> None:
    """Checks groups against the parameters of a model, or their shapes.

    Raises:
      ClipinError: a pattern that matches no parameter, or groups that freeze all.
    """
    paths = paths_of(params)
    for i, group in enumerate(groups):
        require_match(group.pattern, paths, f"{WHERE}[{i}]")
    if all(group_of(path, groups).freeze for path in paths):
        raise ClipinError(f"{WHERE} freezes every parameter: leave some to train")


def layer_factors(
    params: Params, decay: float, order: LayerOrder
) -> dict[str, float | np.ndarray]:
    """Returns factors on the learning rate that decrease from output to input.

    A tower states the depth of its parameters: `layer_order` lists patterns from input
    to output, which are searched in paths below the tower. Numbers that a pattern
    captures are layers. If its group matches no number, layers are stacked on the first
    axis. The last layer has the factor `decay`, each layer before it one more factor
    `decay`. Parameters before the layers (tables, the patch embedding) have the lowest.
    Final norms, poolers, projections and heads have the factor 1.

    Args:
      params: the parameters of the model, or their shapes.
      decay: in (0, 1].
      order: path and `layer_order` of each tower.

    Returns:
      Path -> factor; for stacked layers [layers, 1, ...] float64. Source of the rule:
      BEiT, arXiv 2106.08254, appendix; ELECTRA, arXiv 2003.10555, appendix B.

    Raises:
      ClipinError: a tower without `layer_order`, or none of whose paths match it.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    map_paths(lambda path, leaf: shapes.setdefault(path, np.shape(leaf)), params)
    factors: dict[str, float | np.ndarray] = {}
    for tower, patterns in order:
        levels = {
            path: path_levels
            for path, shape in shapes.items()
            if path.startswith(f"{tower}/")
            and (
                path_levels := _levels(path.removeprefix(f"{tower}/"), shape, patterns)
            )
        }
        if not levels:
            raise ClipinError(
                f"optim.layer_decay: the layers of {tower} are unknown: give its class "
                "a `layer_order`, or set factors with optim.groups"
            )
        ranks = sorted(set().union(*levels.values()))
        factor = {level: decay ** (len(ranks) - i) for i, level in enumerate(ranks)}
        for path, path_levels in levels.items():
            values = np.array([factor[level] for level in path_levels])
            stacked = values.reshape(-1, *[1] * (len(shapes[path]) - 1))
            factors[path] = stacked if len(path_levels) > 1 else factor[path_levels[0]]
    return factors


def _levels(
    path: str, shape: tuple[int, ...], patterns: Sequence[str]
) -> list[tuple[int, ...]]:
    """Returns the depths of a parameter: one per layer, none for heads."""
    for index, pattern in enumerate(patterns):
        match = re.search(pattern, path)
        if match is None:
            continue
        numbers = match.groups()
        if numbers and None in numbers:
            return [(index, layer) for layer in range(shape[0])]
        return [(index, *map(int, numbers))]
    return []
