"""What the texts of one sample say: captions and label, in plain text or in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

_LARGEST_LABEL = 1 << 31  # above all of them, where the classes are not known


class TextPart(NamedTuple):
    """Where in a sample a text is: all of a file, or a value in a file of JSON.

    name: as the config has it.
    extension: of the file.
    keys: the way to the value; None for all of the file.
    """

    name: str
    extension: str
    keys: tuple[str, ...] | None


def text_parts(argument: str, given: str | Sequence[str]) -> list[TextPart]:
    """What a part of the config asks for. Raises ClipinError for nonsense."""
    names = [given] if isinstance(given, str) else list(given)
    parts = []
    for name in names:
        extension, colon, keys = str(name).partition(":")
        way = tuple(keys.split(".")) if colon else None
        if not extension or (way and not all(way)):
            raise ClipinError(
                f"{argument} has {name!r}; it must be an extension, as 'txt', or one "
                "and a key, as 'json:caption'"
            )
        parts.append(TextPart(str(name), extension.lower(), way))
    if len(set(names)) < max(len(names), 1):
        raise ClipinError(
            f"{argument} is {given!r}; it must name one part, or several different ones"
        )
    return parts


class SampleTexts:
    """What the texts of one sample say; JSON is parsed once.

    Args:
      contents: extension -> the file; those that a sample lacks are None.
    """

    def __init__(self, contents: Mapping[str, bytes | None]):
        self._contents, self._parsed = contents, {}

    def captions(self, part: TextPart) -> list[str]:
        """Captions, none of them empty. Raises BadRecord for what is no text."""
        value = self._value(part)
        texts = value if isinstance(value, list) else [value] * (value is not None)
        if not all(isinstance(text, str) for text in texts):
            raise BadRecord(f"{part.name}: neither text nor a list of texts")
        stripped = [text.strip() for text in texts]
        try:
            "".join(stripped).encode()
        except UnicodeEncodeError as error:  # halves of a character, by JSON's \\uD800
            raise BadRecord(f"{part.name}: no valid Unicode") from error
        return [text for text in stripped if text]

    def label(self, part: TextPart, classes: int) -> int:
        """The index of a class. Raises BadRecord for what is none."""
        value = self._value(part)
        if value is None:
            raise BadRecord("no label")
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 32:
            value = int(value)
        if type(value) is not int or not 0 <= value < (classes or _LARGEST_LABEL):
            among = f" of {classes} classes" if classes else ""
            plain = isinstance(value, str | int | float)
            shown = repr(value)[:32] if plain else type(value).__name__
            raise BadRecord(f"{part.name}: {shown} is no index{among}")
        return value

    def _value(self, part: TextPart) -> Any:
        """Text, or whatever JSON has there; None where it is missing."""
        content = self._contents[part.extension]
        if content is None:
            return None
        if part.keys is None:
            return _decoded(part.extension, content)
        if part.extension not in self._parsed:
            self._parsed[part.extension] = _json(part.extension, content)
        value = self._parsed[part.extension]
        for key in part.keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(f"{name}: not UTF-8") from error


def _json(name: str, content: bytes) -> Any:
    text = _decoded(name, content)
    try:
        return json.loads(text)
    # Also numbers of too many digits, and too many brackets.
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{name}: no valid JSON") from error
