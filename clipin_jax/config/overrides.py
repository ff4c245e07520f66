"""Changes to a config that come as text: typed, and with the nearest right key."""

import ast
import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from clipin_jax.errors import ClipinError

# A group with one of these is a named part: its other keys are the arguments.
PART_KEYS = ("name", "type")
LEARNED = "learned"
_WORDS = {"true": True, "false": False, "none": None}


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A changed copy of `config`, from strings such as "optim.learning_rate=1e-4".

    "--config.KEY=value" is read the same way. Values are Python literals of the type
    that is there; strings need no quotes. A float may become a schedule, a part with a
    name or type may be replaced by a dict that names another one. Raises ClipinError if
    a key does not exist, with the nearest one, or a value is of another type.
    """
    config = copy.deepcopy(config)
    for item in overrides:
        key, equals, source = item.partition("=")
        key = key.strip().removeprefix("--").removeprefix("config.")
        if not equals:
            raise ClipinError(f"can not read {item!r}: write KEY=VALUE")
        known = {place[0]: place[1:] for place in fields(config)}
        if key not in known:
            raise ClipinError(f"no config key {key!r}: {_nearest_key(key, known)}")
        parent, name, field = known[key]
        value = coerce(source.strip(), *_value_and_type(field), key)
        with parent.ignore_type():
            parent[name] = value
    return config


def apply_changes(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A changed copy of `config`, from dotted keys and values of any type.

    A group takes a dict, which replaces the whole of it. Raises ClipinError if a key
    does not exist, with the nearest one.
    """
    config = copy.deepcopy(config)
    for key, value in changes.items():
        known = {place[0]: place[1:] for place in fields(config)}
        if key not in known:
            raise ClipinError(f"no config key {key!r}: {_nearest_key(key, known)}")
        parent, name, _ = known[key]
        with parent.ignore_type():
            parent[name] = value
    return config


def fields(
    config: ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, ConfigDict, str, Any]]:
    """Yield dotted key, parent, name and the field itself, references not followed."""
    for name, field in config.items(preserve_field_references=True):
        yield f"{prefix}{name}", config, name, field
        if isinstance(field, ConfigDict):
            yield from fields(field, f"{prefix}{name}.")


def is_unset(field: Any) -> bool:
    """Whether a field is a required placeholder that nobody has filled yet."""
    if not isinstance(field, config_dict.FieldReference):
        return False
    try:
        field.get()
    except config_dict.RequiredValueError:
        return True
    return False


def coerce(source: str, current: Any, kind: type, key: str) -> Any:
    """Read `source` as a value that may stand where `current` of type `kind` stands.

    Raises ClipinError, naming `key`, if it can not.
    """
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = _WORDS.get(source.lower(), source)
    if kind is str and current != LEARNED:
        return value if isinstance(value, str) else source
    return _convert(value, current, kind, key)


def _value_and_type(field: Any) -> tuple[Any, type]:
    if not isinstance(field, config_dict.FieldReference):
        return field, type(field)
    return None if is_unset(field) else field.get(), field.get_type()


def _nearest_key(key: str, keys: Iterable[str]) -> str:
    """The right key for a wrong one, else what its nearest existing group holds."""
    last_names = {k: k.rpartition(".")[2] for k in keys}
    wanted = key.rpartition(".")[2]
    near = difflib.get_close_matches(wanted, set(last_names.values()), cutoff=0.6)
    candidates = [k for k, last in last_names.items() if last in near]
    if candidates:
        best = difflib.get_close_matches(key, candidates, n=1, cutoff=0.0)
        return f"did you mean {best[0]!r}?"
    group = key
    while group and group not in last_names:
        group = group.rpartition(".")[0]
    inside = [last for k, last in last_names.items() if k.rpartition(".")[0] == group]
    return f"{group or 'the config'} has {', '.join(sorted(inside)) or 'no keys'}"


def _convert(value: Any, current: Any, kind: type, key: str) -> Any:
    """`value` as type `kind`: 1 to 1.0, 1e3 to 1000, a list to a tuple."""
    number = type(value) in (int, float)
    if kind is type(None) or (kind is bool and type(value) is bool):
        return value
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind in (list, tuple) and type(value) in (list, tuple):
        return _convert_items(tuple(value), current or (), key)
    if kind is not int and _is_scalar(value) and _is_scalar(current):
        return float(value) if number else value
    if kind is ConfigDict and _names_a_part(value, current):
        return value
    if kind is ConfigDict:
        keys = ", ".join(sorted(current))
        raise ClipinError(f"{key} is a group, set one of its keys: {keys}")
    raise ClipinError(
        f"{key} can not be {value!r}: it is of type {kind.__name__}, now {current!r}"
    )


def _is_scalar(value: Any) -> bool:
    """What a sweep turns: a float, a schedule, or a weight that is learned."""
    if isinstance(value, dict | ConfigDict):
        return "schedule" in value
    return value == LEARNED or type(value) in (int, float)


def _names_a_part(value: Any, current: ConfigDict) -> bool:
    """Whether a dict names another part of the kind that is there."""
    return type(value) is dict and any(k in value and k in current for k in PART_KEYS)


def _convert_items(value: tuple, current: Sequence, key: str) -> tuple:
    """Keep the length and the types of a tuple of numbers; other tuples are free."""
    if not current or any(type(item) not in (int, float) for item in current):
        return value
    if len(value) != len(current):
        raise ClipinError(
            f"{key} can not be {value!r}: it has {len(current)} items, now {current!r}"
        )
    return tuple(
        _convert(new, old, type(old), key)
        for new, old in zip(value, current, strict=True)
    )
