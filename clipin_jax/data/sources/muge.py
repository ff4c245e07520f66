"""Images as base64 in a table, texts in another file, in the layout of Chinese-CLIP.

    FOLDER/train_imgs.tsv      one image per line: its id, a tab, the file in base64
    FOLDER/train_texts.jsonl   {"text_id": 8, "text": "...", "image_ids": [12, 15]}

MUGE and other Chinese data sets have this layout. Yang et al. 2022, "Chinese CLIP:
contrastive vision-language pretraining in Chinese".
"""

from __future__ import annotations

import base64
import binascii
import logging
from array import array
from collections import defaultdict

import numpy as np

from clipin_jax import storage
from clipin_jax.data.content import HEAD, check_content
from clipin_jax.data.formats.caption_values import captions_in
from clipin_jax.data.formats.json_file import check_row, parse_json
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    fingerprint,
)
from clipin_jax.errors import ClipinError, first_few

_BLOCK = 1 << 24  # bytes of the table that are scanned at once
_LONGEST_ID = 256  # bytes of a line in which its first tab must be
_NEWLINE = ord("\n")
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
_log = logging.getLogger(__name__)


class Muge:
    """One record per image, with all its texts, in the order of the table.

    The table may be larger than memory: one pass finds its lines, and images are read
    on demand. Both alphabets of base64 are read.

    Args:
      folder: of the data.
      split: the prefix of the two files, SPLIT_imgs.tsv and SPLIT_texts.jsonl.

    Images without a text are left out; a warning says how many. An image whose texts
    are null is a bad record.

    Raises:
      ClipinError: a file is missing, empty or malformed; an id occurs twice; texts
        refer to images that are not in the table; or no text refers to any.
    """

    classes = ()

    def __init__(self, folder: str, split: str = "train"):
        self._table = storage.join(folder, f"{split}_imgs.tsv")
        texts_file = storage.join(folder, f"{split}_texts.jsonl")
        for path in (self._table, texts_file):
            if not storage.exists(path):
                raise ClipinError(f"no file {path}; set source.folder and source.split")
            head = storage.read_range(path, 0, HEAD)
            check_content(head, path, "table", "source.folder")
        names, starts, ends = _find_lines(self._table)
        line_of = _lines_of(names, self._table)
        content = storage.read(texts_file)
        texts = _read_texts(content, texts_file)
        unknown = [name for name in texts if name not in line_of]
        if unknown:
            raise ClipinError(
                f"{texts_file}: texts of {len(unknown)} images that are not in "
                f"{self._table} (image_ids {first_few(unknown)}); remove them or add "
                "the images"
            )
        dropped = len(names) - len(texts)
        if dropped:
            _log.warning("%s: left out %d images without texts", self._table, dropped)
        rows = sorted(
            (line_of[name], tuple(captions)) for name, captions in texts.items()
        )
        self._captions = [captions for _, captions in rows]
        self._lines = np.array([line for line, _ in rows])
        self._starts, self._ends = starts[self._lines], ends[self._lines]
        offsets = starts.tobytes() + ends.tobytes()
        self.fingerprint = fingerprint("muge 1", names, offsets, content)

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        start, end = int(self._starts[index]), int(self._ends[index])
        text = storage.read_range(self._table, start, end - start)
        if len(text) < end - start:
            raise BadRecord("truncated")
        try:
            standard = text.strip().translate(_FROM_URLSAFE)
            image = base64.b64decode(standard, validate=True)
        except binascii.Error as error:
            raise BadRecord(f"no valid base64: {error}") from error
        return {"image": image, **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns the captions of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        if not self._captions[index]:
            raise BadRecord("no caption")
        return {"captions": self._captions[index]}

    def describe(self, index: int) -> str:
        """Returns the line of the table with the image."""
        return f"line {self._lines[index] + 1} of {self._table}"


def _find_lines(path: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns the id of each line, and the offsets where its base64 starts and ends."""
    names, starts, ends, size = [], array("q"), array("q"), storage.size(path)
    for at in range(0, size, _BLOCK):
        data = storage.read_range(path, at, _BLOCK + _LONGEST_ID)
        breaks = np.flatnonzero(np.frombuffer(data[:_BLOCK], np.uint8) == _NEWLINE)
        ends.extend((at + breaks).tolist())
        begins = (breaks + 1).tolist() if at else [0, *(breaks + 1).tolist()]
        for begin in begins:
            if at + begin == size:
                continue
            name, tab, _ = data[begin : begin + _LONGEST_ID].partition(b"\t")
            if not tab or _NEWLINE in name:
                raise ClipinError(f"{path}: line {len(names) + 1} has no id and tab")
            names.append(name.decode(errors="replace").strip())
            starts.append(at + begin + len(name) + 1)
    if not names:
        raise ClipinError(f"{path} is empty")
    if len(ends) < len(names):  # the last line ends with the file
        ends.append(size)
    return names, np.asarray(starts, np.int64), np.asarray(ends, np.int64)


def _lines_of(names: list[str], path: str) -> dict[str, int]:
    """Returns the line of each id, from 0."""
    line_of = {name: line for line, name in enumerate(names)}
    if len(line_of) < len(names):
        repeated = [name for line, name in enumerate(names) if line_of[name] != line]
        raise ClipinError(
            f"{path}: {len(repeated)} lines repeat an id ({first_few(repeated)})"
        )
    return line_of


def _read_texts(content: bytes, path: str) -> dict[str, list[str]]:
    """Returns the texts of each image, by its id."""
    texts = defaultdict(list)
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        row = parse_json(line, where)
        check_row(row, {"text": str | None, "image_ids": list}, where)
        captions = captions_in(row.get("text"))
        for name in row["image_ids"] if captions != () else ():
            texts[str(name)] += captions or ()
    if not any(texts.values()):
        raise ClipinError(f"{path}: no text names an image")
    return texts
