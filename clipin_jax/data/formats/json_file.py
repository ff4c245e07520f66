"""Files of captions in JSON: read, and checked for what a source needs of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clipin_jax.data import storage
from clipin_jax.errors import ClipinError

_SHOWN = 3  # values in a message before "..."


def read_json(path: str, keys: str, kind: type = dict) -> tuple[bytes, Any]:
    """A JSON file: its bytes, and what they say.

    Args:
      path: of the file, or its URL.
      keys: of the config, named where there is no such file.
      kind: what is at the top, dict or list.

    Raises:
      ClipinError: the file cannot be read, is not valid JSON, or is of another kind.
    """
    try:
        if not storage.exists(path):
            raise FileNotFoundError(2, "No such file")
        content = storage.read(path)
    except OSError as error:
        raise ClipinError(
            f"captions file {path} cannot be read ({error.strerror or error}); set "
            f"{keys}"
        ) from error
    data = parse_json(content, f"captions file {path}")
    if not isinstance(data, kind):
        name = "object" if kind is dict else "list"
        raise ClipinError(f"captions file {path} holds no JSON {name} at the top")
    return content, data


def parse_json(content: bytes, where: str) -> Any:
    """What JSON says. Raises ClipinError, which begins with where it stands."""
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


def rows_of(
    data: Mapping[str, Any], table: str, keys: Mapping[str, Any], path: str
) -> list[dict[str, Any]]:
    """The list of that name, each entry of it with keys of the given types.

    Raises:
      ClipinError: no such list, an empty one, or an entry that lacks a key.
    """
    rows = data.get(table)
    if not isinstance(rows, list):
        raise ClipinError(f"captions file {path} has no list '{table}'")
    if not rows:
        raise ClipinError(f"captions file {path}: its list '{table}' is empty")
    for number, row in enumerate(rows):
        check_row(row, keys, f"captions file {path}: {table}[{number}]")
    return rows


def check_row(row: Any, keys: Mapping[str, Any], where: str) -> None:
    """Raises ClipinError unless a row is an object with keys of the given types."""
    for key, kind in keys.items():
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            raise ClipinError(f"{where} has no valid '{key}'")


def captions_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Those that have words, as `clean` gives them."""
    return tuple(text for text in map(clean, texts) if text)


def clean(text: str) -> str:
    """A text without white space around it.

    Halves of a character, which JSON can write but UTF-8 cannot, become "?".
    """
    return text.strip().encode(errors="replace").decode()


def first_few(values: Sequence[Any]) -> str:
    """The first few values, for a message."""
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown + (", ..." if len(values) > _SHOWN else "")
