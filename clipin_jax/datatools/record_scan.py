"""Reads records as training does, and keeps a few numbers of each.

Flat arrays hold 64-bit hashes of images and captions: ten million records with one
caption take about half a gigabyte.
"""

from __future__ import annotations

import hashlib
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import open_image
from clipin_jax.data.source import BadRecord, Record, Source, why_unusable
from clipin_jax.data.text.caption_cleaning import clean_caption
from clipin_jax.data.text.captions import CaptionChoice
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.datatools.parallel_map import map_in_order

# Attributes of a `ScanResult`: numbers of records or captions, and counts.
ARRAYS = ("index", "bytes", "height", "width", "count", "image", "caption", "tokens")
COUNTERS = ("formats", "kinds", "labels", "reasons")

_DESCRIBED = 20  # unusable records that are listed with origin and reason
_LONGEST_REASON = 120  # letters
_PROBED_SIDE = 64  # about as many rows and columns of an image are compared
_ONE_COLOUR = 8  # levels by which 98% of an image's pixels differ at most

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_BRANDS = {b"WEBP": "WebP", b"avif": "AVIF", b"heic": "HEIC", b"mif1": "HEIC"}


class UnusableRecord(NamedTuple):
    """A record that cannot be used: its index, its origin, and the reason."""

    index: int
    where: str
    reason: str


class RecordSummary(NamedTuple):
    """The numbers of a usable record.

    Attributes:
      index: in the source.
      format: of the image, "pixels" if it is no file.
      bytes: of the image.
      height, width: of the image in pixels.
      one_colour: whether the image is nearly of one colour.
      image, captions: 64-bit hashes.
      tokens: number of tokens of each caption, with start and end.
      kinds: of the captions.
      labels: class indices.
    """

    index: int
    format: str
    bytes: int
    height: int
    width: int
    one_colour: bool
    image: int
    captions: tuple[int, ...]
    tokens: tuple[int, ...]
    kinds: tuple[str, ...]
    labels: tuple[int, ...]


class ScanResult:
    """The numbers of all records that were read.

    Attributes:
      index, height, width, bytes, image, count: a number per usable record; `count` is
        its number of captions, `image` a hash.
      caption, tokens: a number per caption, in the order of `index`; `caption` is a
        hash.
      formats, kinds, labels, reasons: how often each occurs.
      one_colour: number of images that are nearly of one colour.
      unusable: number of unusable records.
      described: the first of them.
      seconds: how long the scan took.
    """

    def __init__(self) -> None:
        self.index, self.bytes = array("q"), array("q")
        self.height, self.width, self.count = array("I"), array("I"), array("I")
        self.image, self.caption = array("Q"), array("Q")
        self.tokens = array("I")
        self.formats: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.labels: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.described: list[UnusableRecord] = []
        self.unusable = self.one_colour = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        """Returns the number of records that were read, usable or not."""
        return len(self.index) + self.unusable

    def add(self, record: RecordSummary | UnusableRecord) -> None:
        """Counts one record."""
        if isinstance(record, UnusableRecord):
            self.unusable += 1
            self.reasons[generalize_reason(record.reason)] += 1
            if len(self.described) < _DESCRIBED:
                self.described.append(record)
            return
        for name in ("index", "bytes", "height", "width", "image"):
            getattr(self, name).append(getattr(record, name))
        self.one_colour += record.one_colour
        self.count.append(len(record.captions))
        self.caption.extend(record.captions)
        self.tokens.extend(record.tokens)
        self.formats[record.format] += 1
        self.kinds.update(record.kinds)
        self.labels.update(record.labels)

    def extend(self, later: ScanResult) -> None:
        """Adds the numbers of records that come after these."""
        for name in ARRAYS:
            getattr(self, name).extend(getattr(later, name))
        for name in COUNTERS:
            getattr(self, name).update(getattr(later, name))
        self.described = [*self.described, *later.described][:_DESCRIBED]
        self.unusable += later.unusable
        self.one_colour += later.one_colour
        self.seconds += later.seconds


class RecordReader:
    """Summarizes the record at an index. Many threads may call it."""

    def __init__(self, source: Source, tokenizer: Tokenizer, data: ConfigDict):
        self._source, self._tokenizer = source, tokenizer
        self._cleaning = data.caption_cleaning, data.caption_words
        self._max_pixels = data.max_pixels
        self._choice = CaptionChoice(data.caption_weights, data.caption_cleaning)
        row = tokenizer(["a"])[0].tolist()
        self._marks = row.index(tokenizer.end) + 1 - len(tokenizer.encode("a"))

    def __call__(self, index: int) -> RecordSummary | UnusableRecord:
        """Reads, decodes and tokenizes a record."""
        decoded = read_decoded(
            self._source, index, self._max_pixels, self._choice.shares
        )
        if isinstance(decoded, UnusableRecord):
            return decoded
        record, pixels = decoded
        image, captions = record["image"], record["captions"]
        return RecordSummary(
            index=index,
            format=image_format(image),
            bytes=len(image) if isinstance(image, bytes) else image.nbytes,
            height=pixels.shape[0],
            width=pixels.shape[1],
            one_colour=is_one_colour(pixels),
            image=_hash(image if isinstance(image, bytes) else pixels.tobytes()),
            captions=tuple(
                _hash(text.encode("utf-8", "surrogatepass")) for text in captions
            ),
            tokens=tuple(self._count_tokens(text) for text in captions),
            kinds=record.get("kinds", ()),
            labels=tuple(np.ravel(record.get("label", ())).astype(int).tolist()),
        )

    def _count_tokens(self, caption: str) -> int:
        cleaned = clean_caption(caption, *self._cleaning)
        return len(self._tokenizer.encode(cleaned)) + self._marks


def read_decoded(
    source: Source, index: int, max_pixels: int, check: Callable[[Record], object]
) -> tuple[Record, np.ndarray] | UnusableRecord:
    """Returns a record and its pixels, [H, W, 3] uint8, or why it is unusable.

    Args:
      source: of the record.
      index: in the source.
      max_pixels: bound on the pixels of an image.
      check: raises BadRecord if the record does not have what is needed.
    """
    try:
        record = source[index]
        check(record)
        return record, open_image(record["image"], max_pixels).pixels()
    except (BadRecord, OSError) as error:
        reason = why_unusable(error)
    # Errors of a faulty source are reported too; the scan continues.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())[:_LONGEST_REASON]
    return UnusableRecord(index, _valid(_describe(source, index)), _valid(reason))


def scan_records(
    source: Source,
    reader: Callable[[int], RecordSummary | UnusableRecord],
    *,
    records: int,
    threads: int,
    progress: Callable[[int, int], None],
    part: slice = slice(None),
) -> ScanResult:
    """Reads some records, spread evenly over a source.

    Args:
      source: of the records.
      reader: summarizes the record at an index.
      records: how many are read; 0 for all.
      threads: number of threads that read.
      progress: called with the number of records so far and in total.
      part: which of these records, if not all.
    """
    result, start = ScanResult(), time.perf_counter()
    length = len(source)
    count = count_scanned(source, records)
    numbers = range(count)[part]
    indices = (number * length // count for number in numbers)
    for record in map_in_order(reader, indices, threads):
        result.add(record)
        progress(len(result), len(numbers))
    result.seconds = time.perf_counter() - start
    return result


def count_scanned(source: Source, records: int) -> int:
    """Returns how many records are read if `records` are asked for; 0 asks for all."""
    return min(records, len(source)) if records else len(source)


def image_format(image: bytes | np.ndarray) -> str:
    """Returns the format of a file by its first bytes; "pixels" for an array."""
    if not isinstance(image, bytes):
        return "pixels"
    for start, name in _SIGNATURES:
        if image.startswith(start):
            return name
    return _BRANDS.get(image[8:12], "other")


def is_one_colour(pixels: np.ndarray) -> bool:
    """Tells whether an image, [H, W, 3] uint8, is nearly of one colour."""
    down, right = (max(1, side // _PROBED_SIDE) for side in pixels.shape[:2])
    probed = pixels[::down, ::right].reshape(-1, 3)
    low, high = np.percentile(probed, (1, 99), axis=0, method="nearest")
    return bool((high.astype(int) - low < _ONE_COLOUR).all())


def generalize_reason(reason: str) -> str:
    """Returns a reason without names and numbers, to count equal faults together."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", re.sub(r"\d[\d,.]*", "N", reason))


def _hash(data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _valid(text: str) -> str:
    """Returns a text that can be printed: the name of a file may be no Unicode."""
    return text.encode(errors="backslashreplace").decode()


def _describe(source: Source, index: int) -> str:
    try:
        return source.describe(index)
    except Exception:  # the source may be as faulty as the record
        return f"record {index}"
