"""Starts a state from weights of another library."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.core.parameter_paths import compile_pattern, flatten, unflatten
from clipin_jax.core.state import TrainState, select
from clipin_jax.errors import ClipinError
from clipin_jax.interop.convert import compare_names, read_arrays
from clipin_jax.interop.descriptions.tokenizers import check_tokenizer
from clipin_jax.interop.foreign_model import (
    ForeignModel,
    assumptions,
    belongs,
    check_settings,
    select_paths,
)
from clipin_jax.models.resnet import resnet_grid
from clipin_jax.models.vit import patch_grid

_STATISTICS = "batch_stats"
_SHOWN = 5  # names in a message


def start_from(
    state: TrainState,
    model: ForeignModel,
    config: ConfigDict,
    *,
    parts: Sequence[str] = ("all",),
    keep: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """Returns a state with the weights of another model; the target is their copy.

    Args:
      state: before the first step; the arrays that are replaced are deleted.
      model, config, parts, keep, report: see `read_weights`.

    Raises:
      ClipinError: see `read_weights`.
    """
    loaded = read_weights(state, model, config, parts=parts, keep=keep, report=report)
    params = _with(state.params, loaded)
    collections = {name: _with(c, loaded) for name, c in state.collections.items()}
    return dataclasses.replace(
        state,
        params=params,
        collections=collections,
        target_params=_copies(params, state.target_params),
        target_collections=_copies(collections, state.target_collections),
    )


def read_weights(
    state: TrainState,
    model: ForeignModel,
    config: ConfigDict,
    *,
    parts: Sequence[str] = ("all",),
    keep: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, jax.Array]:
    """Reads the parameters and batch statistics of a state from another model.

    Each array is placed on its devices as it is read. The state's array is deleted
    then, so that there is never a second copy of the model.

    Args:
      state: arrays, or their shapes with shardings.
      model: from `open_model.open_model`.
      config: of the state.
      parts: `image`, `text`, `all` or regular expressions of paths: what is read.
      keep: regular expressions of our paths, which are not read, and of names of
        theirs, which nothing has to use.
      report: gets lines that say what was read and fitted.

    Returns:
      path -> array, of all that was read.

    Raises:
      ClipinError: the files describe another model than the config, lack an array, or
        have one that the model does not use.
    """
    check_settings(config, model, parts)
    if model.tokenizer and belongs("data.tokenizer.", parts):
        check_tokenizer(config, model.tokenizer)
    # A queue of negatives is no weight.
    flat = flatten(state.params) | flatten(state.collections.get(_STATISTICS, {}))
    kept = _matcher(keep)
    wanted = [path for path in select_paths(list(flat), parts) if not kept(path)]
    shapes = {path: flat[path] for path in wanted}
    _check_names(model, shapes, set(flat), kept, partly=tuple(parts) != ("all",))
    loaded = {}
    for path, value, line in read_arrays(
        model.weights, model.table, shapes, _grid(config)
    ):
        loaded[path] = _placed(value, flat[path].sharding)
        if isinstance(flat[path], jax.Array):
            flat[path].delete()
        if line:
            report(line)
    report(_summary(model, loaded, set(flat)))
    for line in (assumptions(config, model, parts), *model.notes):
        if line:
            report(line)
    return loaded


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    compiled = [compile_pattern(pattern, "init_keep") for pattern in patterns]
    return lambda name: any(pattern.search(name) for pattern in compiled)


def _check_names(
    model: ForeignModel,
    shapes: Mapping[str, Any],
    paths: set[str],
    kept: Callable[[str], bool],
    *,
    partly: bool,
) -> None:
    reading = compare_names(model.weights, model.table, shapes)
    if reading.absent:
        raise ClipinError(
            f"{model.label} has no weights for {_listed(reading.absent)}: leave them "
            "out of init_parts, or name them in init_keep to start from scratch"
        )
    unused = []
    for name in reading.unused:
        place = model.table.place_named(name)
        theirs_alone = place is None or not paths.issuperset(_ours(place.paths, paths))
        mentioned = kept(name) or (place is not None and any(map(kept, place.paths)))
        if not mentioned and theirs_alone and not (partly and place is not None):
            unused.append(name)
    if unused:
        raise ClipinError(
            f"{model.label} has weights that the config has no place for: "
            f"{_listed(unused)}: change the config, or name them in init_keep"
        )


def _ours(paths: Sequence[str], ours: set[str]) -> list[str]:
    """Returns paths as our tree has them: scanned layers have one path for all."""
    scanned = [re.sub(r"/blocks_\d+/", "/blocks/", path) for path in paths]
    return [s if s in ours else p for s, p in zip(scanned, paths, strict=True)]


def _grid(config: ConfigDict) -> tuple[int, int]:
    image = config.model.image
    if "patch_size" in image:
        return patch_grid(tuple(image.image_size), tuple(image.patch_size))
    if "depths" in image:
        return resnet_grid(tuple(image.image_size), len(image.depths))
    return 1, 1


def _placed(value: np.ndarray, place: Any) -> jax.Array:
    return jax.make_array_from_callback(value.shape, place, lambda index: value[index])


def _with(tree: Any, loaded: Mapping[str, Any]) -> Any:
    flat = flatten(tree)
    return unflatten({path: loaded.get(path, leaf) for path, leaf in flat.items()})


def _copies(tree: Any, like: Any) -> Any:
    """Returns copies: the step donates its state, so no leaves may share a buffer."""
    return jax.tree.map(
        lambda value, old: jax.device_put(jnp.copy(value), old.sharding),
        select(tree, like),
        like,
    )


def _summary(model: ForeignModel, loaded: Mapping[str, Any], paths: set[str]) -> str:
    count = sum(int(np.prod(value.shape)) for value in loaded.values())
    line = f"{len(loaded)} arrays ({count / 1e6:,.1f}M) from {model.label}"
    if rest := sorted(paths - loaded.keys()):
        line += f"; {len(rest)} start from scratch: {_listed(rest)}"
    return line


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
