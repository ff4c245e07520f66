"""Reads values of inner objects by keys with dots between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a key; None if it is missing.

    Args:
      values: by key.
      key: a key, or keys of inner objects with dots between. Where an object on the way
        is a list of objects, so is the value, as in `sentences.raw` of COCO.
    """
    if key in values:
        return values[key]
    return inner_value(values, key.split("."))


def inner_value(value: Any, keys: Sequence[str]) -> Any:
    """Returns the value of the keys of inner objects; None if it is missing."""
    for number, key in enumerate(keys):
        if isinstance(value, list):
            inner = [inner_value(item, keys[number:]) for item in value]
            return _flatten(inner)
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _flatten(values: list[Any]) -> list[Any]:
    flat = []
    for value in values:
        flat += value if isinstance(value, list) else [value]
    return flat


def root_of(key: str, present: Sequence[str]) -> str:
    """Returns the column that has a key: of that name, or of the part before a dot."""
    return key if key in present else key.partition(".")[0]
