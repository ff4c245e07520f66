"""The interface of a source of image-text pairs, and helpers for sources.

A source is any class with the methods of `Source`. It may live in another package: a
config names it `"their_package.module:TheirClass"`, with its arguments. A minimal
source:

    class Reports:
        classes = ()

        def __init__(self, folder: str):
            self._images = sorted(Path(folder).glob("*.png"))
            self._texts = [p.with_suffix(".txt").read_text() for p in self._images]
            self.fingerprint = fingerprint("reports 1", self._texts)

        def __len__(self):
            return len(self._images)

        def __getitem__(self, index):
            image = self._images[index].read_bytes()
            return {"image": image, **self.annotations(index)}

        def annotations(self, index):
            return {"captions": (self._texts[index],)}

        def describe(self, index):
            return str(self._images[index])

With `data.processes` a source is pickled and sent to worker processes, so keep open
files and locks out of its attributes.
"""

from __future__ import annotations

import hashlib
import html
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np

from clipin_jax.errors import explained, shorten

# Controls, formats, white space, and marks without a letter.
_BLANK_CATEGORIES = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp", "Mn"))
# Fillers of Hangul and the empty pattern of Braille, which are letters and a symbol.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


class Annotations(TypedDict):
    """The captions and labels of an image.

    captions: at least one, none of them empty.
    kinds: kind of each caption, such as "human" or "synthetic", if there are several.
    label: a class index, or a list of them, if the source has classes.
    boxes: (class name, left, top, width, height) in pixels of each object, if known.
    """

    captions: tuple[str, ...]
    kinds: NotRequired[tuple[str, ...]]
    label: NotRequired[int | list[int]]
    boxes: NotRequired[tuple[tuple[Any, ...], ...]]


class Record(Annotations):
    """Annotations and the image: an encoded file, or pixels [H, W, 3] uint8."""

    image: bytes | np.ndarray


class BadRecord(ValueError):
    """A record that cannot be used; the text gives the reason in a few words."""


def why_unusable(error: Exception) -> str:
    """Returns the reason why a record cannot be used, in one line and never "".

    That of the system is without the file's name, so that equal reasons are counted
    together.
    """
    text = error.strerror if isinstance(error, OSError) else ""
    return shorten(text or str(error)) or type(error).__name__


class Source(Protocol):
    """Random access to records by index, from any thread and any process.

    Attributes:
      classes: names of the classes in label order; () without labels.
      fingerprint: a short hash of the data; a run refuses to resume on other data.
    """

    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Returns a record. Raises BadRecord or OSError if it cannot be used."""
        ...

    def annotations(self, index: int) -> Annotations:
        """Returns a record without its image, which may be much cheaper."""
        ...

    def describe(self, index: int) -> str:
        """Returns the origin of a record for messages: a file name if it has one."""
        ...


def read_record(source: Source, index: int) -> Record:
    """Returns a record of a source of any package.

    Raises:
      BadRecord, OSError: the record cannot be used.
      ClipinError: the class of the source raised something else, or returned no record.
    """
    where = f"record {index} of {type(source).__name__}"
    with explained(where, ignored=(BadRecord, OSError)):
        record = source[index]
        if not isinstance(record["captions"], (tuple, list)):
            raise TypeError("its captions are not a tuple of texts")
    return record


def read_image(source: Source, index: int) -> bytes | np.ndarray:
    """Returns the image of a record, which need not have captions.

    Raises:
      As `read_record`.
    """
    where = f"record {index} of {type(source).__name__}"
    with explained(where, ignored=(BadRecord, OSError)):
        return source[index]["image"]


class MixturePart(NamedTuple):
    """Consecutive records of a source that have epochs of their own.

    length: number of records.
    weight: how often they are read, relative to other parts.
    """

    length: int
    weight: float = 1.0


def mixture_parts(source: Source) -> Sequence[MixturePart]:
    """Returns the parts of a source: its attribute `parts`, or all of it as one."""
    return getattr(source, "parts", None) or [MixturePart(len(source))]


def fingerprint(*parts: Any) -> str:
    """Returns a short hash of parts: bytes, or values that JSON can write."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def clean_captions(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns the results of `clean_text` that a reader would see."""
    return tuple(text for text in map(clean_text, texts) if has_text(text))


def has_text(text: str) -> bool:
    """Tells whether a reader would see anything of a text.

    White space, HTML entities of it, and zero-width or control characters are nothing.
    """
    if text[:1].isalnum() and text[0] not in _BLANK_LETTERS:  # nearly every caption
        return True
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return any(
        letter not in _BLANK_LETTERS
        and unicodedata.category(letter) not in _BLANK_CATEGORIES
        for letter in text
    )


def clean_text(text: str) -> str:
    """Returns a text without white space around it.

    Unpaired surrogates, which JSON can write but UTF-8 cannot, become "?".
    """
    return text.strip().encode(errors="replace").decode()
