"""Reads captions and label from the files of one sample: plain text or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clipin_jax.data.formats.caption_values import caption_texts, likely_key
from clipin_jax.data.formats.nested_values import inner_value
from clipin_jax.data.source import Annotations, BadRecord, has_text
from clipin_jax.errors import ClipinError, shorten

_SHOWN = 8  # keys in a message
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

    @property
    def is_json(self) -> bool:
        """Whether the file is JSON by its extension."""
        return self.extension.rpartition(".")[2] == "json"


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

    def annotations(
        self, captions: Sequence[TextPart], labels: Sequence[TextPart], classes: int
    ) -> Annotations:
        """Returns captions, with their kinds if there are several, and the label.

        Args:
          captions: where they are.
          labels: where the label is; none for no label.
          classes: how many there are; 0 if that is unknown.

        Raises:
          BadRecord: no caption, no label, or a value that is neither.
        """
        pairs = [(text, part.name) for part in captions for text in self.captions(part)]
        if not pairs:
            raise BadRecord("no caption")
        annotations: Annotations = {"captions": tuple(text for text, _ in pairs)}
        if len(captions) > 1:
            annotations["kinds"] = tuple(kind for _, kind in pairs)
        for part in labels:
            annotations["label"] = self.label(part, classes)
        return annotations

    def captions(self, part: TextPart) -> list[str]:
        """Returns captions, none of them empty. Raises BadRecord for other values."""
        stripped = [
            text.strip() for text in caption_texts(self._value(part), part.name)
        ]
        try:
            "".join(stripped).encode()
        except UnicodeEncodeError as error:  # half of a character: JSON's \\uD800
            raise BadRecord(f"{part.name}: no valid Unicode") from error
        return list(filter(has_text, stripped))

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
            text = _decode(part.extension, content)
            is_json_text = part.is_json and text.lstrip()[:1] == '"'
            return _parse_json(part.extension, content) if is_json_text else text
        if part.extension not in self._parsed:
            self._parsed[part.extension] = _parse_json(part.extension, content)
        value = self._parsed[part.extension]
        return inner_value(value, part.keys) if isinstance(value, dict) else None


def check_whole_json(argument: str, part: TextPart, content: bytes | None) -> None:
    """Checks that a whole JSON file is a text, and no object that has one.

    Args:
      argument: its name, for messages.
      part: a whole file.
      content: of that file in a sample.

    Raises:
      ClipinError: it is an object, with the name of the key that is likely meant.
    """
    try:
        values = _parse_json(part.extension, content or b"")
    except BadRecord:
        return
    if isinstance(values, dict):
        keys = ", ".join(shorten(repr(key)) for key in list(values)[:_SHOWN]) or "none"
        key = likely_key(values) or "KEY"
        raise ClipinError(
            f"{argument} is {part.name!r}, a file with a JSON object, not a text; name "
            f"one of its keys, as {argument}='{part.name}:{key}'; the first sample has "
            f"{keys}"
        )


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
