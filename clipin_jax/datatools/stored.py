"""A record as it is stored in a file: what has to come back when that is read."""

from __future__ import annotations

import hashlib
import io
import json
from typing import NamedTuple

import numpy as np
from PIL import Image

from clipin_jax.data.source import BadRecord, Record, Source
from clipin_jax.datatools.scan import Bad, picture_format, read_whole


class Stored(NamedTuple):
    """image: an encoded file; label: None, an index or a list of them."""

    image: bytes
    format: str
    captions: tuple[str, ...]
    kinds: tuple[str, ...]
    label: int | list[int] | None

    def digest(self, *, kinds: bool, label: bool) -> bytes:
        """Equal for equal records alone; kinds and label: whether they count."""
        said = json.dumps([self.captions, self.kinds * kinds, label and self.label])
        picture = hashlib.blake2b(self.image, digest_size=16).digest()
        return hashlib.blake2b(picture + said.encode(), digest_size=16).digest()


def read_stored(source: Source, index: int, max_pixels: int) -> Stored | Bad:
    """A record of a source, or why it cannot be used: its picture is decoded too."""
    found = read_whole(source, index, max_pixels, _demand_text)
    return found if isinstance(found, Bad) else _stored(*found)


def _stored(record: Record, pixels: np.ndarray) -> Stored:
    """pixels: become a PNG where the record has no encoded file."""
    image, label = record["image"], record.get("label")
    if not isinstance(image, bytes):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = buffer.getvalue()
    if label is not None:
        label = np.asarray(label).astype(int).tolist()
    return Stored(
        image,
        picture_format(image),
        tuple(text.strip() for text in record["captions"]),
        tuple(record.get("kinds", ())),
        label,
    )


def _demand_text(record: Record) -> None:
    captions = record["captions"]
    if not captions or not all(text.strip() for text in captions):
        raise BadRecord("no caption, or an empty one")
    try:
        "".join((*captions, *record.get("kinds", ()))).encode()
    except UnicodeEncodeError as error:  # halves of a character
        raise BadRecord("a caption is no valid Unicode") from error
