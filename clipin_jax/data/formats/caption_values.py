"""Reads the captions in a value of a column, a key or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clipin_jax.data.source import BadRecord, clean_captions
from clipin_jax.errors import first_few

_USUAL_KEYS = ("caption", "captions", "text", "title", "TEXT", "alt")


def caption_texts(value: Any, name: str) -> list[str]:
    """Returns the captions in a value, empty ones too.

    Args:
      value: a text, its UTF-8 bytes, a list of these, or None. A text that is a JSON
        list of texts, as some tables have it, is that list.
      name: of the value, for messages.

    Raises:
      BadRecord: another type; a JSON object, of which one key is the caption; or bytes
        that are not UTF-8.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in _single(item, name)]
    [text] = _single(value, name)
    parsed = _parse_json(text, "[")
    if isinstance(parsed, list) and all(isinstance(item, str) for item in parsed):
        return parsed
    return [text]


def captions_in(value: Any) -> tuple[str, ...] | None:
    """Returns the captions in a value that a reader would see, which may be none.

    It is None if the value cannot have captions, see `caption_texts`.
    """
    try:
        return None if value is None else clean_captions(caption_texts(value, ""))
    except BadRecord:
        return None


def likely_key(values: Mapping[str, Any]) -> str:
    """Returns the key of an object that most likely has its caption, "" for none."""
    texts = [key for key, value in values.items() if isinstance(value, str | list)]
    return next((key for key in _USUAL_KEYS if key in texts), next(iter(texts), ""))


def _single(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadRecord(f"{name}: not UTF-8") from error
    if not isinstance(value, str):
        raise BadRecord(f"{name}: neither text nor a list of texts")
    parsed = _parse_json(value, "{")
    if isinstance(parsed, dict):
        keys = first_few([repr(key) for key in parsed])
        raise BadRecord(f"{name}: a JSON object with the keys {keys}, not a caption")
    return [value]


def _parse_json(text: str, start: str) -> Any:
    """Returns the JSON value of a text that begins with a bracket; else None."""
    if not text.lstrip().startswith(start):
        return None
    try:
        return json.loads(text)
    # Also numbers of too many digits, and too many brackets.
    except (ValueError, RecursionError):
        return None
