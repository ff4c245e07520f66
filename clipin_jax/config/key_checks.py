"""Checks the keys of a config, and the form of its lists, before anything is made."""

import functools
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from clipin_jax.config.class_arguments import arguments, groups
from clipin_jax.config.key_origins import flatten
from clipin_jax.config.overrides import PART_KEYS, no_key
from clipin_jax.config.recipes import joint_space, pair_data, run_settings
from clipin_jax.config.values import LEARNED
from clipin_jax.errors import ClipinError, shorten

_PARTS = ("objectives", "optim", "data", "evals")  # beside those of `run_settings`
_ENTRIES = ("objectives", "evals")  # groups of parts with a name of the user's
# Groups with the keys that recipes list. Others hold arguments of a class, which are
# checked where it is called, or names that the user chooses.
_GROUPS = (
    "",
    "model",
    "model.projection",
    "model.lora",
    "target",
    "mesh",
    "data",
    "data.augment",
)


def check_keys(config: ConfigDict) -> None:
    """Checks that the package knows each key that is no argument of a class.

    Raises:
      ClipinError: one that it does not know, with the nearest key.
      KeyError: of ml_collections, see `missing_key`: a config of another version, which
        does not have all keys.
    """
    known = _known_config()
    for name in known:
        config[name]
    for place in _GROUPS:
        group, keys = _group(config, place), set(_group(known, place))
        for name in group:
            if name not in keys:
                prefix = f"{place}." if place else ""
                raise no_key(f"{prefix}{name}", (f"{prefix}{key}" for key in keys))


def check_lists(config: ConfigDict, within: str = "") -> None:
    """Checks that no string stands where a list is meant: it would be read by letters.

    Args:
      config: of a run.
      within: the one group to check, such as "data"; "" for all. The classes that
        it names are imported.

    Raises:
      ClipinError: a string for a list.
    """
    for key, value in _lists(config, within):
        if isinstance(value, str):
            raise ClipinError(
                f"{key} is the string {value!r}: give a list, such as ({value!r},)"
            )


def check_types(config: ConfigDict, within: str = "") -> None:
    """Checks that each value is of a type that its key takes.

    Overrides are read so. A page and an edited `config.json` can hold anything.

    Args:
      config: of a run.
      within: as for `check_lists`.

    Raises:
      ClipinError: a value of another type.
    """
    for key, value, kind in _typed(config, within):
        if not _KINDS[kind].accepts(value):
            shown = value.to_dict() if isinstance(value, ConfigDict) else value
            raise ClipinError(
                f"{key} is {shorten(repr(shown))}: give {_KINDS[kind].form}"
            )


class _Kind(NamedTuple):
    accepts: Callable[[Any], bool]
    form: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    is_schedule = isinstance(value, Mapping | ConfigDict) and "schedule" in value
    return _is_number(value) or is_schedule or value == LEARNED


_KINDS = {
    bool: _Kind(lambda value: value in (True, False), "True or False"),
    int: _Kind(
        lambda value: isinstance(value, Integral) and not isinstance(value, bool),
        "a whole number, such as 8",
    ),
    float: _Kind(_is_scalar, "a number"),
    str: _Kind(lambda value: isinstance(value, str), "text"),
    tuple: _Kind(lambda value: isinstance(value, tuple | list), "a list"),
    dict: _Kind(lambda value: isinstance(value, Mapping | ConfigDict), "a dict"),
}


def _typed(config: ConfigDict, within: str) -> Iterator[tuple[str, Any, type]]:
    """Yields dotted key, value and kind of every key whose kind is known."""
    flat = {} if within else flatten(config)
    for place, _ in groups(_known_config()):
        above, _, name = place.rpartition(".")
        if not within and name in _group(config, above):
            yield place, _group(config, above)[name], dict
    for name in () if within else _ENTRIES:
        for entry, value in _group(config, name).items():
            yield f"{name}.{entry}", value, dict
    for key, default in flatten(_known_config()).items():
        if type(default) in _KINDS and key in flat:
            yield key, flat[key], type(default)
            items = default if isinstance(default, tuple) else ()
            item_kind = type(items[0]) if items else None
            if item_kind in (int, float):
                yield from ((key, item, item_kind) for item in flat[key])
    for place, group in groups(config):
        if not f"{place}.".startswith(f"{within}." if within else ""):
            continue
        if any(":" in str(group.get(key, "")) for key in (*PART_KEYS, "schedule")):
            continue  # a class of another package, which says what is wrong itself
        known = arguments(place, group)
        for name, value in group.items():
            if name in known and known[name].kind in _KINDS:
                value = value.get() if isinstance(value, FieldReference) else value
                yield f"{place}.{name}", value, known[name].kind


def _lists(config: ConfigDict, within: str) -> Iterator[tuple[str, Any]]:
    """Yields dotted key and value of every key that takes a list."""
    flat = {} if within else flatten(config)
    for key, value in flatten(_known_config()).items():
        if isinstance(value, tuple) and key in flat:
            yield key, flat[key]
    for place, group in groups(config):
        if not f"{place}.".startswith(f"{within}." if within else ""):
            continue
        known = arguments(place, group)
        for name, value in group.items():
            if name in known and known[name].is_list:
                yield f"{place}.{name}", value


def _group(config: ConfigDict, place: str) -> Mapping[str, Any]:
    """Returns a group; {} if it is not there."""
    group: Any = config
    for name in filter(None, place.split(".")):
        group = group.get(name, {})
    return group if isinstance(group, Mapping | ConfigDict) else {}


@functools.cache
def _known_config() -> ConfigDict:
    """Returns a config with the keys that recipes list."""
    config = run_settings("", batch_size=1, total_steps=1)
    towers = dict(image=dict(image_size=(1, 1)), text=dict(context_length=1))
    config.model = joint_space(1) | towers
    config.update({name: {} for name in _PARTS})
    config.data = pair_data(config, lambda *_: {}, {})
    return config
