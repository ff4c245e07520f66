"""COCO, Flickr8k and Flickr30k in the splits of Karpathy and Fei-Fei 2015.

    FOLDER/dataset_coco.json    {"images": [{"filepath": "val2014", "filename": "9.jpg",
                                  "split": "train", "sentences": [{"raw": "..."}]}]}
    FOLDER/val2014/9.jpg

Karpathy and Fei-Fei 2015, "Deep visual-semantic alignments for generating image
descriptions".
"""

from __future__ import annotations

import logging
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.caption_values import captions_in
from clipin_jax.data.formats.folders import check_images
from clipin_jax.data.formats.json_file import check_row, read_json, read_rows
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    fingerprint,
)
from clipin_jax.errors import ClipinError, check_choice, shorten_path

_log = logging.getLogger(__name__)


class Karpathy:
    """One record per image of a split, with all its sentences, in the file's order.

    Args:
      folder: of the data.
      file: the JSON file, relative to the folder.
      split: "train", "val", "test"; several joined by "+", as "train+restval".
      images: the folder of the image files, relative to `folder`. An entry's
        `filepath`, if it has one, is a folder inside it.

    Images without a sentence are left out; a warning says how many. An image that is
    missing, or whose sentences are null, is a bad record.

    Raises:
      ClipinError: the JSON file is missing, malformed, empty or has no such keys; there
        is no such split; or all image files are missing.
    """

    classes = ()

    def __init__(
        self,
        folder: str,
        file: str = "dataset_coco.json",
        split: str = "train",
        images: str = "",
    ):
        path = storage.join(folder, file)
        self._images = (
            storage.join(folder, images) if images else storage.join(folder, "")
        )
        content, data = read_json(path, "source.folder and source.file")
        keys = {"filename": str, "split": str, "sentences": list}
        entries = read_rows(data, "images", keys, path)
        known, splits = sorted({entry["split"] for entry in entries}), split.split("+")
        for part in splits:
            check_choice("karpathy.split", part, known)
        if not any(map(_has_text, entries)):
            for number, entry in enumerate(entries):
                where = f"captions file {path}: images[{number}].sentences[0]"
                for sentence in entry["sentences"][:1]:
                    check_row(sentence, {"raw": str}, where)
        self._records = [
            (_file_name(entry), _sentences(entry))
            for entry in entries
            if entry["split"] in splits
        ]
        self._drop_uncaptioned(path)
        names = [name for name, _ in self._records]
        check_images(names, self._images, path, lenient=True)
        self.fingerprint = fingerprint("karpathy 1", content, sorted(splits))

    def _drop_uncaptioned(self, path: str) -> None:
        count = len(self._records)
        self._records = [record for record in self._records if record[1] != ()]
        if not any(sentences for _, sentences in self._records):
            raise ClipinError(f"captions file {path}: no image has a sentence")
        dropped = count - len(self._records)
        if dropped:
            _log.warning("%s: left out %d images without sentences", path, dropped)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self._path(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns the captions of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        captions = self._records[index][1]
        if captions is None:
            raise BadRecord("no caption")
        return {"captions": captions}

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return shorten_path(self._path(index))

    def _path(self, index: int) -> str:
        return storage.join(self._images, self._records[index][0])


def _file_name(entry: dict[str, Any]) -> str:
    folder = entry.get("filepath")
    return f"{folder}/{entry['filename']}" if folder else entry["filename"]


def _raw_texts(entry: dict[str, Any]) -> list[str | None]:
    """Returns the text of each sentence, None where there is none."""
    raw = [row.get("raw") for row in entry["sentences"] if isinstance(row, dict)]
    raw += [None] * (len(entry["sentences"]) - len(raw))
    return [text if isinstance(text, str) else None for text in raw]


def _has_text(entry: dict[str, Any]) -> bool:
    return any(text is not None for text in _raw_texts(entry))


def _sentences(entry: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the sentences of an image; None if they are null."""
    texts = [captions_in(text) for text in _raw_texts(entry)]
    sentences = tuple(text for several in texts for text in several or ())
    return sentences if sentences or None not in texts else None
