"""Text to values of the type that a config key takes."""

import ast
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError

LEARNED = "learned"
_CONSTANTS = {"true": True, "false": False, "none": None}


def read_literal(text: str) -> Any:
    """The value of a Python literal; other text is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _CONSTANTS.get(text.lower(), text)


def read_value(text: str, current: Any, kind: type, key: str) -> Any:
    """Reads text as a value for a key.

    Args:
      text: a Python literal; strings need no quotes.
      current: the value that the key has now, or its default; None if there is none.
      kind: the type of the key's values; `type(None)` for any.
      key: for messages.

    Raises:
      ClipinError: the value is of another type.
    """
    value = read_literal(text)
    if kind is str and current != LEARNED:
        return value if isinstance(value, str) else text
    return _convert(value, current, kind, key)


def _convert(value: Any, current: Any, kind: type, key: str) -> Any:
    """Returns `value` as type `kind`: 1 as 1.0, 1e3 as 1000, a list as a tuple."""
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
    if kind is ConfigDict:
        keys = ", ".join(sorted(current))
        raise ClipinError(
            f"{key} is a group: set one of its keys, {keys}{_in_place_of(current)}"
        )
    now = "" if current is None else f", now {current!r}"
    raise ClipinError(f"{key} cannot be {value!r}: it is of type {kind.__name__}{now}")


def _in_place_of(group: ConfigDict) -> str:
    """The end of a message: what can replace a group."""
    if "schedule" in group:
        return "; or give a number, or a dict with 'schedule'"
    names = [key for key in ("name", "type") if key in group]
    return f"; or replace it by a dict with {names[0]!r}" if names else ""


def _is_scalar(value: Any) -> bool:
    """Whether a value is a number, a schedule, or "learned"."""
    if isinstance(value, dict | ConfigDict):
        return "schedule" in value
    return value == LEARNED or type(value) in (int, float)


def _convert_items(value: tuple, current: Sequence, key: str) -> tuple:
    """Keeps the length and the types of a tuple of numbers; other tuples are free."""
    if not current or any(type(item) not in (int, float) for item in current):
        return value
    if len(value) != len(current):
        raise ClipinError(
            f"{key} cannot be {value!r}: it has {len(current)} items, now {current!r}"
        )
    return tuple(
        _convert(new, old, type(old), key)
        for new, old in zip(value, current, strict=True)
    )
