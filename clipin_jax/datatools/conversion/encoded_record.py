"""A record in the form in which it is written to a file and must be read again."""

from __future__ import annotations

import hashlib
import io
import json
from typing import NamedTuple

import numpy as np
from PIL import Image

from clipin_jax.data.source import BadRecord, Record, Source, has_text
from clipin_jax.datatools.record_scan import (
    UnusableRecord,
    image_format,
    read_decoded,
)


class EncodedRecord(NamedTuple):
    """A record with an encoded image.

    Attributes:
      image: the bytes of the file.
      format: of the file, see `image_format`.
      captions: of the image.
      kinds: of the captions.
      label: class index, a list of them, or None.
    """

    image: bytes
    format: str
    captions: tuple[str, ...]
    kinds: tuple[str, ...]
    label: int | list[int] | None

    def digest(self, *, kinds: bool, label: bool) -> bytes:
        """Returns a hash of the record, with its kinds and label if these are set."""
        text = json.dumps([self.captions, self.kinds * kinds, label and self.label])
        image = hashlib.blake2b(self.image, digest_size=16).digest()
        return hashlib.blake2b(image + text.encode(), digest_size=16).digest()


def read_encoded(
    source: Source, index: int, max_pixels: int
) -> EncodedRecord | UnusableRecord:
    """Reads and decodes a record; returns it, or the reason why it is unusable."""
    decoded = read_decoded(source, index, max_pixels, _check_captions)
    return decoded if isinstance(decoded, UnusableRecord) else _encode(*decoded)


def _encode(record: Record, pixels: np.ndarray) -> EncodedRecord:
    """Encodes a record; an image that is no file becomes a PNG of its pixels."""
    image, label = record["image"], record.get("label")
    if not isinstance(image, bytes):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = buffer.getvalue()
    if label is not None:
        label = np.asarray(label).astype(int).tolist()
    return EncodedRecord(
        image=image,
        format=image_format(image),
        captions=tuple(text.strip() for text in record["captions"]),
        kinds=tuple(record.get("kinds", ())),
        label=label,
    )


def _check_captions(record: Record) -> None:
    captions = record["captions"]
    if not captions or not all(map(has_text, captions)):
        raise BadRecord("no caption, or an empty one")
    try:
        "".join((*captions, *record.get("kinds", ()))).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise BadRecord("a caption is not valid Unicode") from error
