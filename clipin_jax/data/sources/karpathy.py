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

from clipin_jax.data import storage
from clipin_jax.data.formats.folders import check_images
from clipin_jax.data.formats.json_file import check_row, read_json, read_rows
from clipin_jax.data.source import (
    Annotations,
    Record,
    clean_captions,
    fingerprint,
)
from clipin_jax.errors import ClipinError, check_choice

_log = logging.getLogger(__name__)


class Karpathy:
    """One record per image of a split, with all its sentences, in the file's order.

    Args:
      folder: of the data.
      file: the JSON file, relative to the folder.
      split: "train", "val", "test"; several joined by "+", as "train+restval".
      images: the folder of the image files, relative to `folder`. An entry's
        `filepath`, if it has one, is a folder inside it.

    Images without a sentence are left out; a warning says how many.

    Raises:
      ClipinError: the JSON file is missing, malformed, empty or has no such keys; there
        is no such split; or image files are missing.
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
        self._records = [
            (
                _file_name(entry),
                _sentences(entry, f"captions file {path}: images[{number}]"),
            )
            for number, entry in enumerate(entries)
            if entry["split"] in splits
        ]
        self._drop_uncaptioned(path)
        check_images([name for name, _ in self._records], self._images, path)
        self.fingerprint = fingerprint("karpathy 1", content, sorted(splits))

    def _drop_uncaptioned(self, path: str) -> None:
        count = len(self._records)
        self._records = [record for record in self._records if record[1]]
        if not self._records:
            raise ClipinError(f"captions file {path}: no image has a sentence")
        dropped = count - len(self._records)
        if dropped:
            _log.warning("%s: left out %d images without sentences", path, dropped)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns the captions of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return {"captions": self._records[index][1]}

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return storage.join(self._images, self._records[index][0])


def _file_name(entry: dict[str, Any]) -> str:
    folder = entry.get("filepath")
    return f"{folder}/{entry['filename']}" if folder else entry["filename"]


def _sentences(entry: dict[str, Any], where: str) -> tuple[str, ...]:
    for number, sentence in enumerate(entry["sentences"]):
        check_row(sentence, {"raw": str}, f"{where}.sentences[{number}]")
    return clean_captions(sentence["raw"] for sentence in entry["sentences"])
