"""What a source of image-text pairs is, and the checks that all of them share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

# What is said about one picture:
#   captions: tuple of at least one str, none of them empty
#   kinds: only where captions are of several kinds, what kind each is: tuple of as many
#     str, as "human" or "synthetic"
#   label: class index, or a list of them; only where there are classes
Annotations = dict[str, Any]
# The same and the picture:
#   image: an encoded file as bytes, or pixels [H, W, 3] uint8
Record = dict[str, Any]


class BadRecord(ValueError):
    """A record that cannot be used; the text says why, in a few words."""


class MixturePart(NamedTuple):
    """Some records of a source that follow one another, with a pace of their own.

    weight: how often they are met, against those of other parts.
    """

    length: int
    weight: float = 1.0


class Source(Protocol):
    """Random access to records by index, from any thread and any process.

    Attributes:
      classes: names of the classes in label order; () when there are no labels.
      fingerprint: a short hash of what the data is; a run refuses to resume on another.
    """

    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """The record. Raises BadRecord or OSError where it is of no use."""
        ...

    def annotations(self, index: int) -> Annotations:
        """The record without its picture, which may be much cheaper."""
        ...

    def describe(self, index: int) -> str:
        """Where the record comes from, for messages: a file name if there is one."""
        ...


def mixture_parts(source: Source) -> Sequence[MixturePart]:
    """What a source consists of: itself, unless it is a mixture of others."""
    return getattr(source, "parts", None) or [MixturePart(len(source))]


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able parts; bytes are hashed as they are."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
