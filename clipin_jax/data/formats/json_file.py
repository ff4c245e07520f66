"""Reads JSON files, and checks that they have the values that a source needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clipin_jax import storage
from clipin_jax.data.compressed import unpack
from clipin_jax.data.content import HEAD, describe_content
from clipin_jax.errors import ClipinError


def read_json(path: str, keys: str, kind: type = dict) -> tuple[bytes, Any]:
    """Returns the bytes of a JSON file, and its parsed value.

    Args:
      path: of the file, or its URL.
      keys: the config keys to set if there is no such file, for messages.
      kind: type of the value, dict or list.

    Raises:
      ClipinError: the file cannot be read, is not valid JSON, or has another type of
        value.
    """
    try:
        if not storage.exists(path):
            raise FileNotFoundError(2, "No such file")
        content = unpack(storage.read(path), path)
    except OSError as error:
        raise ClipinError(
            f"captions file {path} cannot be read ({error.strerror or error}); set "
            f"{keys}"
        ) from error
    if name := describe_content(content[:HEAD]):
        raise ClipinError(f"captions file {path} is no JSON, but {name}; set {keys}")
    data = parse_json(content, f"captions file {path}")
    if not isinstance(data, kind):
        name = "object" if kind is dict else "list"
        raise ClipinError(f"captions file {path} holds no JSON {name} at the top")
    return content, data


def parse_json(content: bytes, where: str) -> Any:
    """Parses JSON.

    Args:
      content: in UTF-8.
      where: start of error messages: the file, and the line if it is one of many.

    Raises:
      ClipinError: the content is not valid JSON.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ClipinError(
            f"{where} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{error.msg}"
        ) from error
    # Not UTF-8, too many brackets, a number of too many digits.
    except (ValueError, RecursionError) as error:
        raise ClipinError(f"{where} is not valid JSON: {error}") from error


def read_rows(
    data: Mapping[str, Any], name: str, keys: Mapping[str, Any], path: str
) -> list[dict[str, Any]]:
    """Returns the list of objects that a JSON object has under a name.

    Args:
      data: the JSON object.
      name: of the list.
      keys: the keys that each entry must have, with their types.
      path: of the file, for messages.

    Raises:
      ClipinError: no such list, an empty one, or an entry without a key.
    """
    rows = data.get(name)
    if not isinstance(rows, list):
        raise ClipinError(f"captions file {path} has no list '{name}'")
    if not rows:
        raise ClipinError(f"captions file {path}: its list '{name}' is empty")
    for number, row in enumerate(rows):
        check_row(row, keys, f"captions file {path}: {name}[{number}]")
    return rows


def check_row(row: Any, keys: Mapping[str, Any], where: str) -> None:
    """Checks that an object has keys of the given types. Raises ClipinError."""
    for key, kind in keys.items():
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            raise ClipinError(f"{where} has no valid '{key}'")
