"""Builds the towers and objectives that a config names, and checks what they are."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from clipin_jax import registry
from clipin_jax.core.hashable import hashable
from clipin_jax.errors import ClipinError, check_choice, check_range, shorten
from clipin_jax.models.attention.choice import IMPLEMENTATIONS
from clipin_jax.objectives import OBJECTIVES
from clipin_jax.objectives.base import Objective
from clipin_jax.types import Array, Metrics

MODALITIES = ("image", "text")
DTYPES = ("float32", "bfloat16", "float16", "float64")
TARGET_VIEWS = ("second", "same")
# Fields of our towers that count or measure something; none of them can be 0.
_SIZES = (
    "width", "depth", "depths", "num_heads", "mlp_ratio", "image_size", "patch_size",
    "context_length", "vocab_size", "output_dim", "num_queries", "pool_width",
    "pool_heads", "norm_eps",
)  # fmt: skip


def make_tower(
    table: Mapping[str, Any],
    where: str,
    spec: Mapping[str, Any],
    shared: Mapping[str, Any],
    *,
    optional: Mapping[str, Any],
) -> Any:
    """Builds a tower.

    Args:
      table: short name -> class.
      where: the config key of the tower, for messages.
      spec: its `name` and its own arguments.
      shared: arguments of every tower.
      optional: arguments of the towers that have such fields.

    Raises:
      ClipinError: an unknown name, a class that is no tower, an unknown argument,
        or a size that is not above 0.
    """
    if "name" not in spec:
        raise ClipinError(f"{where}.name is missing: use one of {', '.join(table)}")
    arguments = {key: value for key, value in spec.items() if key != "name"}
    tower = registry.find(table, spec["name"], f"{where}.name")
    _check_module(tower, shared, f"{where}.name", "clipin_jax/models/base.py")
    if spec["name"] in table:
        _check_sizes(where, arguments)
    fields = inspect.signature(tower).parameters
    known = {key: value for key, value in optional.items() if key in fields}
    return _call(tower, where, arguments, {**shared, **known})


def _check_sizes(where: str, arguments: Mapping[str, Any]) -> None:
    for key in arguments.keys() & set(_SIZES):
        value = arguments[key]
        sizes = value if isinstance(value, tuple | list) else (value,)
        if not all(isinstance(size, int | float) and size > 0 for size in sizes):
            raise ClipinError(
                f"{where}.{key} is {shorten(repr(value))}: it must be above 0"
            )


def make_objective(
    name: str, spec: Mapping[str, Any], dtypes: Mapping[str, Any]
) -> Objective:
    """Builds an objective.

    Args:
      name: its key in `config.objectives`, and its type unless `spec` gives another.
      spec: its `type`, scalars and own arguments.
      dtypes: `dtype` and `param_dtype`.

    Raises:
      ClipinError: an unknown name, a class that is no objective, an unknown
        argument, or one that is beyond the limits of the class.
    """
    where = f"objectives.{name}"
    key = f"{where}.type" if "type" in spec else where
    objective = registry.find(OBJECTIVES, spec.get("type", name), key)
    page = "clipin_jax/objectives/base.py"
    registry.check_members(objective, ["scalars", "scalar"], key, page)
    scalars = objective.scalars
    if "weight" not in scalars:
        raise ClipinError(
            f"{key}: {objective.__name__}.scalars has no 'weight', the factor of the "
            "loss: add it, with 1.0 as default"
        )
    arguments = {k: v for k, v in spec.items() if k not in (*scalars, "type")}
    learned = tuple(scalar for scalar in scalars if spec.get(scalar) == "learned")
    shared = dict(name=name, learned=learned, **dtypes)
    _check_module(objective, shared, key, page)
    module = _call(objective, where, arguments, shared, also=scalars)
    for field, (least, most) in getattr(objective, "limits", {}).items():
        if field not in scalars:  # those may differ from step to step
            check_range(f"{where}.{field}", getattr(module, field), least, most)
    return module


def _check_module(
    module: Any, shared: Mapping[str, Any], where: str, page: str
) -> None:
    """Checks that a class is a flax module with the shared fields.

    Raises:
      ClipinError: it is not.
    """
    if isinstance(module, type) and not issubclass(module, nn.Module):
        raise ClipinError(
            f"{where}: {module.__name__} is no flax module: derive it from "
            f"flax.linen.Module, see {page}"
        )
    registry.check_accepts(module, shared, where, page)


def _call(
    module: Any,
    where: str,
    arguments: Mapping[str, Any],
    shared: Mapping[str, Any],
    also: Iterable[str] = (),
) -> Any:
    """Builds a module with the arguments of its config and the shared ones."""
    for key in (*shared, "parent"):
        if key in arguments:
            raise ClipinError(f"{where}.{key} cannot be set: it follows from the rest")
    filled = (*shared, "name", "parent")
    registry.check_arguments(module, arguments, where, also=also, filled=filled)
    return registry.construct(module, where, **hashable(arguments), **shared)


def check_loss(result: Any, where: str) -> tuple[Array, Metrics]:
    """Returns the result of an objective. Raises ClipinError if it is no loss."""
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not is_pair or not isinstance(result[1], Mapping):
        raise ClipinError(
            f"{where} must return (loss, metrics), a scalar and a dict of scalars; it "
            f"returned a {type(result).__name__}"
        )
    for name, value in {"its loss": result[0], **result[1]}.items():
        if jnp.shape(value):
            raise ClipinError(
                f"{where}: {name} must be a scalar, but has the shape "
                f"{jnp.shape(value)}: take its mean"
            )
    return result


def check_model(model: ConfigDict) -> None:
    """Checks the keys of `config.model` that belong to neither tower.

    Raises:
      ClipinError: a negative width, `remat` of other keys than the towers, or a mean or
        deviation that pixels cannot have.
    """
    for key in ("embed_dim", "pre_projector"):
        if model[key] < 0:
            raise ClipinError(
                f"model.{key} is {model[key]}: give a width, or 0 for none"
            )
    if not isinstance(model.remat, ConfigDict) or {*model.remat} != {*MODALITIES}:
        raise ClipinError(
            f"model.remat is {model.remat!r}: give model.remat.image and "
            "model.remat.text, such as 'none' or 'full'"
        )
    if not all(0 <= mean <= 1 for mean in model.image_mean):
        raise ClipinError(
            f"model.image_mean is {model.image_mean}: give numbers from 0 to 1, the "
            "range of the pixels"
        )
    if not all(0 < deviation <= 1 for deviation in model.image_std):
        raise ClipinError(
            f"model.image_std is {model.image_std}: give numbers above 0 and up to 1, "
            "for pixels from 0 to 1"
        )


def check_objectives(objectives: Mapping[str, Any], embedding_from: str) -> None:
    """Checks the views of targets, and `model.embedding_from`.

    Args:
      objectives: name -> objective.
      embedding_from: the name of one that embeds, or "".

    Raises:
      ClipinError: there is none, an unknown view, or an objective that does not embed.
    """
    if not objectives:
        raise ClipinError(
            "objectives is empty: there is no loss; add one, such as "
            "objectives.contrastive={}"
        )
    for name, objective in objectives.items():
        view = getattr(objective, "target_view", TARGET_VIEWS[0])
        if view not in TARGET_VIEWS:
            raise ClipinError(
                f"objectives.{name}.target_view is {view!r}: use one of {TARGET_VIEWS}"
            )
    embedding = [n for n, o in objectives.items() if hasattr(type(o), "embed")]
    if embedding_from and embedding_from not in embedding:
        raise ClipinError(
            f"model.embedding_from is {embedding_from!r}: use '' for the joint "
            f"space, or an objective that has `embed` (here {embedding or 'none'})"
        )


def compute_dtype(model: ConfigDict, key: str) -> Any:
    """Returns a dtype of `config.model`. Raises ClipinError if we have no such."""
    check_choice(f"model.{key}", model[key], DTYPES)
    return jnp.dtype(model[key])


def attention_choice(model: ConfigDict) -> str:
    """Returns `model.attention`. Raises ClipinError if there is no such."""
    chosen = model.get("attention", "auto")  # a run from before this key has none
    check_choice("model.attention", chosen, IMPLEMENTATIONS)
    return chosen
