"""Reads records as training does, and keeps of each no more than a few numbers.

Pictures and captions are remembered by 64-bit hashes in flat arrays: ten million
records with a caption each take about half a gigabyte.
"""

from __future__ import annotations

import hashlib
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import open_image
from clipin_jax.data.source import BadRecord, Record, Source
from clipin_jax.data.text.caption_cleaning import clean_caption
from clipin_jax.data.text.captions import CaptionChoice
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.datatools.threads import in_order

DESCRIBED = 20  # bad records that are kept with name and reason
_LONGEST = 120  # letters of a reason

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_BOXES = {b"WEBP": "WebP", b"avif": "AVIF", b"heic": "HEIC", b"mif1": "HEIC"}


class Bad(NamedTuple):
    """A record that cannot be used: where it comes from and why."""

    index: int
    where: str
    reason: str


class Look(NamedTuple):
    """A good record in numbers.

    picture, captions: 64-bit hashes; tokens: of each caption, with its marks.
    """

    index: int
    format: str
    bytes: int
    height: int
    width: int
    picture: int
    captions: tuple[int, ...]
    tokens: tuple[int, ...]
    kinds: tuple[str, ...]
    labels: tuple[int, ...]


class Scan:
    """What the records that were looked at are.

    Attributes:
      index, height, width, bytes, picture, count: one number for each good record;
        `count` is how many captions it has, `picture` a hash.
      caption, tokens: one number for each caption, records in the order of `index`.
      formats, kinds, labels, reasons: how often there was which.
      bad: how many records were of no use; described: the first of them.
      seconds: how long it took.
    """

    def __init__(self) -> None:
        self.index, self.bytes = array("q"), array("q")
        self.height, self.width, self.count = array("I"), array("I"), array("I")
        self.picture, self.caption = array("Q"), array("Q")
        self.tokens = array("I")
        self.formats: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.labels: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.described: list[Bad] = []
        self.bad = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        """How many records were looked at, good and bad."""
        return len(self.index) + self.bad

    def add(self, found: Look | Bad) -> None:
        """Counts one record."""
        if isinstance(found, Bad):
            self.bad += 1
            self.reasons[kind_of(found.reason)] += 1
            if len(self.described) < DESCRIBED:
                self.described.append(found)
            return
        for name in ("index", "bytes", "height", "width", "picture"):
            getattr(self, name).append(getattr(found, name))
        self.count.append(len(found.captions))
        self.caption.extend(found.captions)
        self.tokens.extend(found.tokens)
        self.formats[found.format] += 1
        self.kinds.update(found.kinds)
        self.labels.update(found.labels)


class Reader:
    """Index -> what the record is. Used from many threads."""

    def __init__(self, source: Source, tokenizer: Tokenizer, data: ConfigDict):
        self._source, self._tokenizer = source, tokenizer
        self._cleaning = data.caption_cleaning, data.caption_words
        self._max_pixels = data.max_pixels
        self._choice = CaptionChoice(data.caption_weights)
        row = tokenizer(["a"])[0].tolist()
        self._marks = row.index(tokenizer.end) + 1 - len(tokenizer.encode("a"))

    def __call__(self, index: int) -> Look | Bad:
        """Reads, decodes and tokenizes a record."""
        found = read_whole(self._source, index, self._max_pixels, self._choice.shares)
        if isinstance(found, Bad):
            return found
        record, pixels = found
        image, captions = record["image"], record["captions"]
        return Look(
            index,
            picture_format(image),
            len(image) if isinstance(image, bytes) else image.nbytes,
            pixels.shape[0],
            pixels.shape[1],
            _hash(image if isinstance(image, bytes) else pixels.tobytes()),
            tuple(_hash(text.encode("utf-8", "surrogatepass")) for text in captions),
            tuple(self._length(text) for text in captions),
            record.get("kinds", ()),
            tuple(np.ravel(record.get("label", ())).astype(int).tolist()),
        )

    def _length(self, text: str) -> int:
        cleaned = clean_caption(text, *self._cleaning)
        return len(self._tokenizer.encode(cleaned)) + self._marks


def read_whole(
    source: Source,
    index: int,
    max_pixels: int,
    demand: Callable[[Record], Any] = lambda record: None,
) -> tuple[Record, np.ndarray] | Bad:
    """A record and its pixels, or why it is of no use.

    demand: raises BadRecord for a record that has not what is needed of it.
    """
    try:
        record = source[index]
        demand(record)
        return record, open_image(record["image"], max_pixels).pixels()
    except BadRecord as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    # A fault in a source is a finding too; the scan goes on.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())[:_LONGEST] or "unknown"
    return Bad(index, _where(source, index), reason)


def scan(
    source: Source,
    reader: Callable[[int], Look | Bad],
    *,
    records: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> Scan:
    """Looks at so many records, spread evenly over the source; 0: at all.

    progress: called with how many are done and how many there will be.
    """
    found, start = Scan(), time.perf_counter()
    count = min(records, len(source)) if records else len(source)
    for look in in_order(reader, _evenly(len(source), count), threads):
        found.add(look)
        progress(len(found), count)
    found.seconds = time.perf_counter() - start
    return found


def picture_format(image: bytes | np.ndarray) -> str:
    """What a file's first bytes say it is."""
    if not isinstance(image, bytes):
        return "pixels"
    for start, name in _MAGIC:
        if image.startswith(start):
            return name
    return _BOXES.get(image[8:12], "other")


def kind_of(reason: str) -> str:
    """A reason without names and numbers, so that equal faults can be counted."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", re.sub(r"\d[\d,.]*", "N", reason))


def _evenly(length: int, count: int) -> Iterator[int]:
    return (place * length // count for place in range(count))


def _hash(data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _where(source: Source, index: int) -> str:
    try:
        return source.describe(index)
    except Exception:  # as unusable as the record
        return f"record {index}"
