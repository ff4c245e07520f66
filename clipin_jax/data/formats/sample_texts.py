"""Reads captions and label from the files of one sample: plain text or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

_MOST_CLASSES = 1 << 31  # bound on labels if the classes are unknown


class TextPart(NamedTuple):
    """Where a sample has a text: in a whole file, or a value of a JSON file.

    name: as given in the config.
    extension: of the file.
    keys: the keys of the value, outer ones first; None for the whole file.
    """

    name: str
    extension: str
    keys: tuple[str, ...] | None


def text_parts(argument: str, value: str | Sequence[str]) -> list[TextPart]:
    """Parses an argument that names texts.

    Args:
      argument: its name, for messages.
      value: "txt", "json:caption", or several.

    Raises:
      ClipinError: a name of neither form, a repeated one, or none.
    """
    names = [value] if isinstance(value, str) else list(value)
    parts = []
    for name in names:
        extension, colon, keys = str(name).partition(":")
        path = tuple(keys.split(".")) if colon else None
        if not extension or (path and not all(path)):
            raise ClipinError(
                f"{argument} has {name!r}; it must be an extension, as 'txt', or one "
                "and a key, as 'json:caption'"
            )
        parts.append(TextPart(str(name), extension.lower(), path))
    if len(set(names)) < max(len(names), 1):
        raise ClipinError(
            f"{argument} is {value!r}; it must name one part, or several different ones"
        )
    return parts


class SampleTexts:
    """The texts of one sample; JSON is parsed once.

    Args:
      contents: extension -> the file's bytes, None if the sample has no such file.
    """

    def __init__(self, contents: Mapping[str, bytes | None]):
        self._contents, self._parsed = contents, {}

    def captions(self, part: TextPart) -> list[str]:
        """Returns captions, none of them empty. Raises BadRecord for other values."""
        value = self._value(part)
        texts = value if isinstance(value, list) else [value] * (value is not None)
        if not all(isinstance(text, str) for text in texts):
            raise BadRecord(f"{part.name}: neither text nor a list of texts")
        stripped = [text.strip() for text in texts]
        try:
            "".join(stripped).encode()
        except UnicodeEncodeError as error:  # half of a character: JSON's \\uD800
            raise BadRecord(f"{part.name}: no valid Unicode") from error
        return [text for text in stripped if text]

    def label(self, part: TextPart, classes: int) -> int:
        """Returns the index of a class. Raises BadRecord for other values."""
        value = self._value(part)
        if value is None:
            raise BadRecord("no label")
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 32:
            value = int(value)
        if type(value) is not int or not 0 <= value < (classes or _MOST_CLASSES):
            classes_text = f" of {classes} classes" if classes else ""
            is_scalar = isinstance(value, str | int | float)
            shown = repr(value)[:32] if is_scalar else type(value).__name__
            raise BadRecord(f"{part.name}: {shown} is no index{classes_text}")
        return value

    def _value(self, part: TextPart) -> Any:
        """Returns the text, or the value in JSON; None if it is missing."""
        content = self._contents[part.extension]
        if content is None:
            return None
        if part.keys is None:
            return _decode(part.extension, content)
        if part.extension not in self._parsed:
            self._parsed[part.extension] = _parse_json(part.extension, content)
        value = self._parsed[part.extension]
        for key in part.keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(f"{name}: not UTF-8") from error


def _parse_json(name: str, content: bytes) -> Any:
    text = _decode(name, content)
    try:
        return json.loads(text)
    # Also numbers of too many digits, and too many brackets.
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{name}: no valid JSON") from error
