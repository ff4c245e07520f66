"""Parts of a config: the dicts that name a class, and the arguments that it takes.

Which table holds the class follows from where the part stands. A table is imported when
an argument is asked for that the config does not list, and no earlier: jax and flax
take seconds.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clipin_jax import registry

# Groups whose keys are names that the user chooses, and what an entry may be. None
# removes one.
ENTRY_GROUPS: dict[str, tuple[type, ...]] = {
    r"evals": (dict,),
    r"objectives": (dict,),
    r"log": (dict, bool),
    r"compiler_options": (bool, int, float, str),
    r".*\.sources": (dict,),
    r"data\.augment\.transforms": (dict,),
}
_SOURCE = r"(.*\.)?(source|train_source|val_source|sources\.[^.]+)"
_FLAX = ("parent", "name", "dtype", "param_dtype")
ANY = type(None)  # the kind of an argument that takes any literal


class Part(NamedTuple):
    """A kind of part, and what its builder does not leave to the config.

    Attributes:
      place: regular expression of its dotted keys.
      table: "module:NAME" of the table of classes, or of the one class.
      key: names the class; "" where there is one alone. Without a `type` an entry is
        of the type that it is called.
      given: how many leading arguments the builder gives.
      filled: arguments that the builder gives by name.
      settings: keys that the builder reads itself, with their defaults.
    """

    place: str
    table: str
    key: str
    given: int = 0
    filled: Sequence[str] = ()
    settings: Mapping[str, Any] = types.MappingProxyType({})


PARTS = (
    Part(r".*", "clipin_jax.core.schedules:SCHEDULES", "schedule", given=1),
    Part(
        r"model\.image", "clipin_jax.models:IMAGE_TOWERS", "name",
        filled=(*_FLAX, "scan_layers", "remat", "attention"),
    ),
    Part(
        r"model\.text", "clipin_jax.models:TEXT_TOWERS", "name",
        filled=(*_FLAX, "scan_layers", "remat", "attention"),
    ),
    Part(
        r"model\.lora\.[^.]+", "clipin_jax.core.lora:Lora", "", filled=("modality",)
    ),
    Part(
        r"objectives\.[^.]+", "clipin_jax.objectives:OBJECTIVES", "type",
        filled=(*_FLAX, "learned"),
    ),
    Part(
        "optim", "clipin_jax.core.optimizers:OPTIMIZERS", "name", given=1,
        filled=("learning_rate", "weight_decay", "mask"),  # of a function of optax
        settings=dict(
            weight_decay=0.0, clip_norm=0.0, no_decay=(), bounds=(), groups=(),
            layer_decay=1.0,
        ),
    ),
    Part(_SOURCE, "clipin_jax.data.sources:SOURCES", "name"),
    Part(
        r"data\.tokenizer", "clipin_jax.data.text:TOKENIZERS", "name",
        filled=("context_length", "long_captions", "cleaning", "max_words"),
    ),
    Part(
        r"data\.augment\.transforms\.[^.]+", "clipin_jax.data.image:TRANSFORMS", "type"
    ),
    Part(
        r"evals\.[^.]+", "clipin_jax.evaluators:EVALUATORS", "type", given=1,
        settings={"every_steps": 0, "at_start": False},
    ),
    Part(
        r"evals\.[^.]+\.decoding", "clipin_jax.inference.generation:Decoding", ""
    ),
    Part(
        r"log\.[^.]+", "clipin_jax.runs.loggers.table:LOGGERS", "type"
    ),
    Part(
        "checkpoint", "clipin_jax.runs.checkpoint:Checkpoints", "", given=1,
        filled=("read_only",),
    ),
)  # fmt: skip


class Argument(NamedTuple):
    """An argument of a class.

    Attributes:
      kind: the type of its values; `ANY` where it takes any literal.
      default: `REQUIRED` if there is none.
      owner: the name of the class.
      is_list: whether it takes a list and no string.
    """

    kind: type
    default: Any
    owner: str
    is_list: bool = False


REQUIRED = inspect.Parameter.empty


def target_of(place: str, group: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Returns the class or function that a group of a config names; None if no part.

    Args:
      place: dotted key of the group.
      group: its keys and values.

    Raises:
      ClipinError: the class does not exist.
    """
    part = _part(place, group)
    return None if part is None else _class(part, place, group)


def arguments(place: str, group: Mapping[str, Any]) -> dict[str, Argument]:
    """The arguments of the class that a group of a config names.

    Args:
      place: dotted key of the group.
      group: its keys and values; {} for a part that names no class.

    Returns:
      Name to argument; {} if the group is no part.

    Raises:
      ClipinError: the class does not exist.
    """
    part = _part(place, group)
    if part is None:
        return {}
    target = _class(part, place, group)
    settings = {
        k: Argument(type(v), v, "", isinstance(v, tuple))
        for k, v in part.settings.items()
    }
    # Losses have numbers that a config may set, schedule or learn.
    scalars = getattr(target, "scalars", {})
    owner = target.__name__
    return (
        settings
        | {k: Argument(float, value, owner) for k, value in scalars.items()}
        | {
            p.name: Argument(_kind(p), p.default, owner, _is_list(p))
            for p in _parameters(target)[part.given :]
            if p.name not in part.filled
            and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
    )


def with_defaults(config: ConfigDict) -> ConfigDict:
    """Returns a copy, not locked, that lists the arguments which the config leaves out.

    Not those whose default is None, or is of a type that JSON lacks. A run keeps this
    copy, so that it stays what it is when a default changes.

    Raises:
      ClipinError: a class that does not exist.
    """
    complete = copy.deepcopy(config).unlock()
    for key, default, _ in defaults(config):
        if default is None or not _is_plain(default):
            continue
        *groups, name = key.split(".")
        group = complete
        for word in groups:
            group = group[word]
        group[name] = default
    return complete


def defaults(config: ConfigDict) -> Iterator[tuple[str, Any, str]]:
    """Yields dotted key, default and class of the arguments that are left out."""
    for place, group in list(groups(config)):
        for name, argument in arguments(place, group).items():
            if name not in group and argument.default is not REQUIRED:
                yield f"{place}.{name}", argument.default, argument.owner


def groups(group: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted key and group, of all groups in a group."""
    if isinstance(group, ConfigDict):  # a required value may still be missing
        group = dict(group.items(preserve_field_references=True))
    for name, value in group.items():
        if isinstance(value, Mapping | ConfigDict):
            key = f"{place}.{name}".lstrip(".")
            yield key, value
            yield from groups(value, key)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _part(place: str, group: Mapping[str, Any]) -> Part | None:
    for part in PARTS:
        if not re.fullmatch(part.place, place):
            continue
        if part.key in group or part.key in ("", "type"):
            return part
    return None


def _class(part: Part, place: str, group: Mapping[str, Any]) -> Callable[..., Any]:
    module, _, name = part.table.partition(":")
    table = getattr(importlib.import_module(module), name)
    if not part.key:
        return table
    default = place.rpartition(".")[2]
    return registry.find(table, group.get(part.key, default), f"{place}.{part.key}")


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(target, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers alone
        signature = inspect.signature(target)
    return list(signature.parameters.values())


def _kind(parameter: inspect.Parameter) -> type:
    """The type of an argument's values, from its annotation, else from its default."""
    if parameter.default is None:
        return ANY
    annotation = parameter.annotation
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    choices = set(typing.get_args(annotation)) if union else {annotation}
    if choices <= {int, float} and float in choices:
        return float
    if len(choices) == 1:
        only = choices.pop()
        kind = typing.get_origin(only) or only
        if kind in (bool, int, float, str, tuple):
            return kind
        if kind is Sequence:
            return tuple
    if parameter.default is not REQUIRED and not union:
        kind = type(parameter.default)
        return kind if kind in (bool, int, float, str, tuple) else ANY
    return ANY


def _is_list(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    choices = set(typing.get_args(annotation)) if union else {annotation}
    kinds = {typing.get_origin(choice) or choice for choice in choices - {ANY}}
    return bool(kinds) and kinds <= {Sequence, list, tuple}
