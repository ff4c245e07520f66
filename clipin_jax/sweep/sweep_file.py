"""Reads a sweep from the command line or from a file, and checks it.

A sweep file is Python with `get_sweep(arg)`, which returns a dict:

    config      NAME[:OPTIONS], a .py file or a run's folder
    space       config key -> list of values, "LOW..HIGH[:log][:int]", or one value
    method      grid (default), zip, random, quasi (default for ranges), tpe, gp, nsga2
    trials      how many points; not for grid and zip
    seeds       runs of each point, over which the metric is averaged; default: 1
    metric      "EVALUATOR/METRIC[:min]", or two of them for nsga2
    prune       asha, hyperband, median, or wilcoxon over seeds; default: none
    schedule    "fixed": schedules span total_steps (default); "open": none sees the end
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import (
    apply_overrides,
    call_file,
    find_config,
    load_config,
    split_spec,
)
from clipin_jax.config.overrides import split_override
from clipin_jax.errors import ClipinError, check_choice, did_you_mean
from clipin_jax.sweep.checks import check_sweep
from clipin_jax.sweep.definition import FIXED, Sweep
from clipin_jax.sweep.goals import read_goals
from clipin_jax.sweep.search.methods import SEARCHED
from clipin_jax.sweep.space.axes import (
    Axis,
    Choices,
    Range,
    Space,
    python_axis,
    read_space,
)
from clipin_jax.sweep.space.designs import DRAWN, LISTED

_KEYS = (
    "config", "space", "method", "trials", "seeds", "metric", "prune", "schedule",
)  # fmt: skip
_FUNCTION = "get_sweep"


def load_sweep(
    spec: str, items: Mapping[str, str], options: Mapping[str, Any]
) -> Sweep:
    """Returns the sweep of a command.

    Args:
      spec: a config, or "FILE.py[:ARG]" of a sweep.
      items: config key -> its values, as typed; they replace those of a file.
      options: keys of a sweep's file; None where the command gives none.

    Raises:
      ClipinError: what is wrong with the file, the keys or the options.
    """
    given = {key: value for key, value in options.items() if value is not None}
    name, arg = split_spec(spec)
    content: dict[str, Any] = {"config": spec}
    if is_file := _is_sweep_file(name):
        content = _read_file(Path(name), arg)
    typed = dict(content.get("space", {})) | dict(items)
    texts, axes = {}, {}
    for key, value in typed.items():
        axis = python_axis(key, value)
        (texts if isinstance(axis, str) else axes)[key] = axis
    space = Space(axes, tuple(f"{key}={text}" for key, text in texts.items()))
    content |= given
    return _make(content, space, Path(name).stem if is_file else "")


def typed_items(items: Mapping[str, str] | list[str]) -> dict[str, str]:
    """Returns key -> text of "KEY=TEXT" items, checked.

    Raises:
      ClipinError: no "=", a key given twice, or text that cannot be read.
    """
    pairs = [split_override(item) for item in items]
    read_space(pairs)
    return dict(pairs)


def _is_sweep_file(name: str) -> bool:
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError):
        return False  # reading it as a config says what is wrong
    return any(
        isinstance(x, ast.FunctionDef) and x.name == _FUNCTION for x in tree.body
    )


def _read_file(path: Path, arg: str) -> dict[str, Any]:
    content = call_file(path, _FUNCTION, arg)
    if not isinstance(content, Mapping):
        raise ClipinError(
            f"sweep {path.stem}: {_FUNCTION}(arg) must return a dict, not {content!r}"
        )
    for key in content:
        if key not in _KEYS:
            known = did_you_mean(str(key), _KEYS)
            raise ClipinError(f"sweep {path.stem}: there is no key {key!r}: {known}")
    for key in ("config", "space"):
        if not content.get(key):
            raise ClipinError(f"sweep {path.stem}: {key} is missing")
    return dict(content)


def _make(content: Mapping[str, Any], space: Space, name: str) -> Sweep:
    spec = content["config"]
    find_config(split_spec(spec)[0])
    method = content.get("method") or ("quasi" if space.ranges else "grid")
    check_choice("--method", method, (*LISTED, *DRAWN, *SEARCHED))
    base = _load_base(spec, space)
    metrics = content.get("metric") or ()
    sweep = Sweep(
        name=name or base.name or "sweep",
        spec=spec,
        base=base,
        space=_with_integers(base, space),
        method=method,
        trials=content.get("trials", 0),
        seeds=content.get("seeds", 1),
        goals=read_goals((metrics,) if isinstance(metrics, str) else metrics, base),
        prune=content.get("prune") or "",
        schedule=content.get("schedule") or FIXED,
    )
    check_sweep(sweep)
    return sweep


def _load_base(spec: str, space: Space) -> ConfigDict:
    """Returns the config without its axes, or with first values where it has none."""
    try:
        return load_config(spec, space.fixed)
    except ClipinError as error:
        if "needs a value for" not in str(error):
            raise
        firsts = [f"{key}={_first(axis)}" for key, axis in space.axes.items()]
        return load_config(spec, [*space.fixed, *firsts])


def _with_integers(base: ConfigDict, space: Space) -> Space:
    """Returns the space with whole numbers for keys that take nothing else.

    Raises:
      ClipinError: a key does not exist, or cannot have one of its values.
    """
    axes: dict[str, Axis] = {}
    for key, axis in space.axes.items():
        if isinstance(axis, Choices):
            for value in axis.values:
                apply_overrides(base, [f"{key}={value}"])
            axes[key] = axis
            continue
        integer = axis.integer or _takes_integers(base, key, axis)
        axes[key] = axis = axis._replace(integer=integer)
        for end in axis[:2]:
            apply_overrides(base, [f"{key}={axis.text(end)}"])
    return Space(axes, space.fixed)


def _takes_integers(base: ConfigDict, key: str, axis: Range) -> bool:
    whole = all(float(end).is_integer() for end in axis[:2])
    if not whole:
        return False
    value: Any = apply_overrides(base, [f"{key}={int(axis.low)}"])
    for word in key.split("."):
        value = value[word]
    return type(value) is int


def _first(axis: Axis) -> str:
    return axis.at(0.0)
