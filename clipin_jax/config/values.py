"""Text to values of the type that a config key takes."""

import ast
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError, shorten

LEARNED = "learned"
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


class _Constants(ast.NodeTransformer):
    """Replaces the names of constants, as JSON and YAML write them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if node.id.lower() in _CONSTANTS:
            return ast.Constant(_CONSTANTS[node.id.lower()])
        return node


def read_literal(text: str) -> Any:
    """The value of a Python or JSON literal; other text is a string."""
    try:
        return ast.literal_eval(_Constants().visit(ast.parse(text, mode="eval")))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def normal_forms(text: str) -> tuple[str, ...]:
    """A text as it is, then in the normal forms of Unicode, which look the same."""
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD")))
    return tuple(dict.fromkeys(forms))


def find_path(name: str) -> Path | None:
    """The path of this name, in either normal form of Unicode; None if none exists."""
    for form in normal_forms(name):
        path = Path(form).expanduser()
        try:
            if name and path.exists():
                return path
        except (OSError, ValueError):  # too long, or no text that a path can have
            continue
    return None


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
    """Returns `value` as type `kind`: 1 as 1.0, 1e3 as 1000, a list as a tuple.

    For a bool, 0 and 1 will do; for a pair of equal numbers, one number.
    """
    number = type(value) in (int, float)
    if kind is type(None) or (kind is bool and type(value) is bool):
        return value
    if kind is bool and number and value in (0, 1):
        return bool(value)
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind in (list, tuple) and type(value) in (list, tuple):
        return _convert_items(tuple(value), current or (), key)
    if kind in (list, tuple) and number and _is_square(current):
        return _convert_items((value, value), current, key)
    if kind is not int and _is_scalar(value) and _is_scalar(current):
        return float(value) if number else value
    if kind is ConfigDict:
        keys = ", ".join(sorted(current))
        raise ClipinError(
            f"{key} is a group: set one of its keys, {keys}{_in_place_of(current)}"
        )
    now = "" if current is None else f", now {current!r}"
    raise ClipinError(
        f"{key} cannot be {shorten(repr(value))}: it is of type {kind.__name__}{now}"
    )


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


def _is_square(current: Any) -> bool:
    """Whether a value is a pair of equal numbers, as the sides of an image."""
    return (
        len(current or ()) == 2
        and current[0] == current[1]
        and all(type(item) in (int, float) for item in current)
    )


def _convert_items(value: tuple, current: Sequence, key: str) -> tuple:
    """Keeps the length and the types of a tuple of numbers; other tuples are free."""
    if not current or any(type(item) not in (int, float) for item in current):
        return value
    if len(value) != len(current):
        raise ClipinError(
            f"{key} cannot be {shorten(repr(value))}: it has {len(current)} items, now "
            f"{current!r}"
        )
    return tuple(
        _convert(new, old, type(old), key)
        for new, old in zip(value, current, strict=True)
    )
