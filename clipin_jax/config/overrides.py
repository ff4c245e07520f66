"""Changes to a config by dotted key: listed keys, unlisted arguments, whole entries."""

import contextlib
import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from clipin_jax.config.class_arguments import ANY, ENTRY_GROUPS, REQUIRED, arguments
from clipin_jax.config.key_links import fields, is_unset
from clipin_jax.config.values import normal_forms, read_literal, read_value
from clipin_jax.errors import ClipinError, shorten

# A group with one of these is a named part: its other keys are the arguments.
PART_KEYS = ("name", "type")
_BRACKETS = ("(", "[", "{")  # begin a literal
_FREE = (str, ANY)  # kinds of keys that take any text
# Names at least this similar are proposed; for short ones, chance is too likely.
_NEAR, _SAME, _SHORT = 0.75, 0.8, 4


class _Place(NamedTuple):
    """Where a key is, or may be set.

    Attributes:
      group: the group that has the key.
      name: the last word of the key.
      current: its value, or the default of the argument; None if there is neither.
      kind: the type of its values.
      entry: the types of an entry with a name of the user's; () for other keys.
    """

    group: ConfigDict
    name: str
    current: Any
    kind: type
    entry: tuple[type, ...]


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns a changed copy of a config, from text such as "optim.learning_rate=1e-4".

    A key is one that the config lists, an argument of the class that the config names
    there, or an entry of a group such as `evals` (`class_arguments.ENTRY_GROUPS`). A
    value is a Python literal of the type that is there; strings need no quotes. A
    number may become a schedule. Another class drops the arguments that only the one
    before takes. A dict replaces a part, or adds an entry; None removes an entry.

    Args:
      config: not changed.
      overrides: "KEY=VALUE", or "--config.KEY=VALUE".

    Raises:
      ClipinError: a key does not exist, with the nearest one, or a value is of another
        type.
    """
    with _changeable_copy(config) as changed:
        for item in overrides:
            key, text = split_override(item)
            place = _find(changed, key)
            _set(place, _read(place, text, key), key)
    return changed


def split_override(item: str) -> tuple[str, str]:
    """Returns the key and the text of the value of "KEY=VALUE".

    Raises:
      ClipinError: there is no "=".
    """
    key, equals, text = item.partition("=")
    if not equals:
        raise ClipinError(f"cannot read {shorten(repr(item))}: write KEY=VALUE")
    return key.strip().removeprefix("--").removeprefix("config."), text.strip()


def override_key(item: str) -> str:
    """Returns the key of "KEY=VALUE"."""
    return split_override(item)[0]


def apply_changes(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns a changed copy of a config, from dotted keys and values of any type.

    Keys are those of `apply_overrides`. A group takes a dict, which replaces all of it.

    Raises:
      ClipinError: a key does not exist, with the nearest one.
    """
    with _changeable_copy(config) as changed:
        for key, value in changes.items():
            _set(_find(changed, key), value, key)
    return changed


@contextlib.contextmanager
def _changeable_copy(config: ConfigDict) -> Iterator[ConfigDict]:
    """Yields a copy whose values may change their type; then locks it as `config` is.

    Once for all keys: a visit of every group takes milliseconds.
    """
    changed = copy.deepcopy(config)
    if changed.is_locked:  # that of a page is not, and may still lack a value
        changed.unlock()
    with changed.ignore_type():
        yield changed
    if config.is_locked:
        changed.lock()


def drop_removed(config: ConfigDict) -> None:
    """Removes the entries that are None, as in `config.evals.retrieval = None`."""
    for key, group, name, field in list(fields(config)):
        if field is None and _entry_types(key.rpartition(".")[0]):
            del group[name]


def _find(config: ConfigDict, key: str) -> _Place:
    """The place of a key; makes its group if that is an argument which takes a dict."""
    group_key, _, name = key.rpartition(".")
    group = _group(config, group_key)
    if group is None:
        raise _unlisted(config, key, ())
    listed = dict(group.items(preserve_field_references=True))
    name = next((form for form in normal_forms(name) if form in listed), name)
    entry = _entry_types(group_key)
    if name in listed:
        return _Place(group, name, *_value_and_kind(listed[name]), entry)
    if entry:
        return _Place(group, name, None, ConfigDict, entry)
    known = arguments(group_key, group)
    if name not in known:
        raise _unlisted(config, key, (f"{group_key}.{other}" for other in known))
    argument = known[name]
    current = None if argument.default is REQUIRED else argument.default
    return _Place(group, name, current, argument.kind, ())


def _entry_types(key: str) -> tuple[type, ...]:
    for pattern, kinds in ENTRY_GROUPS.items():
        if re.fullmatch(pattern, key):
            return kinds
    return ()


def _group(config: ConfigDict, key: str) -> ConfigDict | None:
    """The group at a dotted key; None if there is none and none can be made.

    One can be made of an argument that takes a dict, and of an entry that is True.
    """
    group: Any = config
    place = ""
    for word in filter(None, key.split(".")):
        listed = dict(group.items(preserve_field_references=True))
        word = next((form for form in normal_forms(word) if form in listed), word)
        inner = listed.get(word)
        above, place = place, f"{place}.{word}".lstrip(".")
        if not isinstance(inner, ConfigDict):
            is_argument = inner is None and word in arguments(above, group)
            is_switched_on = inner is True and bool(_entry_types(above))
            if not (is_argument or is_switched_on) or not arguments(place, {}):
                return None
            group[word] = inner = ConfigDict(type_safe=False)
        group = inner
    return group


def _value_and_kind(field: Any) -> tuple[Any, type]:
    if not isinstance(field, config_dict.FieldReference):
        return field, type(field)
    return None if is_unset(field) else field.get(), field.get_type()


def _read(place: _Place, text: str, key: str) -> Any:
    value = read_literal(text)
    if value == text and text[:1] in _BRACKETS and place.kind not in _FREE:
        raise ClipinError(
            f"{key} cannot be {shorten(repr(text))}, it is no Python literal: close "
            "its brackets, and put strings and names in quotes"
        )
    if place.entry and (value is None or type(value) in place.entry):
        return value
    if place.entry and place.name not in place.group:
        raise ClipinError(
            f"{key} cannot be {shorten(repr(value))}: write a dict of its arguments to "
            "add it, such as {'type': NAME}"
        )
    if place.kind is ConfigDict and _names_a_part(value, place.current):
        return value
    if (kinds := _entry_types(key)) and type(value) is dict:
        return _check_entries(value, kinds, key)
    return read_value(text, place.current, place.kind, key)


def _check_entries(entries: dict, kinds: tuple[type, ...], key: str) -> dict:
    """Returns a dict of entries that replaces those of a group."""
    for name, entry in entries.items():
        if entry is not None and type(entry) not in kinds:
            raise ClipinError(
                f"{key} cannot have {name!r}: {shorten(repr(entry))}: each entry is a "
                "dict of its arguments, such as {'type': NAME}"
            )
    return entries


def _set(place: _Place, value: Any, key: str) -> None:
    if value is None and place.entry:
        if place.name not in place.group:
            near = difflib.get_close_matches(place.name, place.group, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ClipinError(
                f"{key} cannot be removed, it does not exist: {hint}there are "
                f"{', '.join(place.group) or 'none'}"
            )
        del place.group[place.name]
        return
    if place.name in PART_KEYS:
        _set_class(place.group, place.name, value, key.rpartition(".")[0])
    else:
        place.group[place.name] = value


def _set_class(group: ConfigDict, name: str, value: Any, group_key: str) -> None:
    """Sets the class of a part; drops arguments that only the class before had."""
    before = arguments(group_key, group)
    group[name] = value
    after = arguments(group_key, group) if before else {}
    for argument in before.keys() - after.keys():
        if argument in group:
            del group[argument]


def _names_a_part(value: Any, current: ConfigDict) -> bool:
    """Whether a dict names another part of the kind that is there."""
    return type(value) is dict and any(k in value and k in current for k in PART_KEYS)


def _unlisted(config: ConfigDict, key: str, more: Iterable[str]) -> ClipinError:
    """The error for a key that a config does not list; `more` are other keys."""
    return no_key(key, (*(place[0] for place in fields(config)), *more))


def no_key(key: str, known: Iterable[str]) -> ClipinError:
    """Returns the error for a key that does not exist, with the nearest known one."""
    return ClipinError(f"no config key {key!r}: {_nearest_key(key, tuple(known))}")


def _nearest_key(key: str, keys: Sequence[str]) -> str:
    """The right key for a wrong one, else the keys of its nearest existing group."""
    group, _, name = key.rpartition(".")
    known_groups = {k.rpartition(".")[0] for k in keys}
    inside = [k for k in keys if k.rpartition(".")[0] == group]
    # A key of another group is what was meant only if its name is nearly the same.
    cutoff = _SAME if group and inside or len(name) < _SHORT else _NEAR
    same = [k for k in keys if k.rpartition(".")[2] == name]
    near = _similar(key, inside, _NEAR if len(name) >= _SHORT else _SAME)
    if not same and group not in known_groups:  # an argument of a misspelt part
        closest = difflib.get_close_matches(group, known_groups, n=1, cutoff=_SAME)
        near = next((f"{there}.{name}" for there in closest), None)
    if near := _similar(key, same, 1) or near or _similar(key, keys, cutoff):
        return f"did you mean {near!r}?"
    while group and not any(k.startswith(f"{group}.") for k in keys):
        group = group.rpartition(".")[0]
    names = {k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == group}
    return f"{group or 'the config'} has {', '.join(sorted(names)) or 'no keys'}"


def _similar(key: str, keys: Sequence[str], cutoff: float) -> str | None:
    """The key whose last name has these initials, as `lr`, or is most like this one.

    One that has all the words of this name, as `warmup`, is more like it than letters
    say.
    """
    key = key.lower()
    name = key.rpartition(".")[2]
    last = {k: k.rpartition(".")[2] for k in keys}
    candidates = [k for k, n in last.items() if len(name) > 1 and name == _initials(n)]
    if not candidates:
        words = set(name.split("_"))
        near = difflib.get_close_matches(name, set(last.values()), cutoff=cutoff)
        candidates = [
            k for k, n in last.items() if n in near or words <= set(n.split("_"))
        ]
    return next(iter(difflib.get_close_matches(key, candidates, n=1, cutoff=0)), None)


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))
