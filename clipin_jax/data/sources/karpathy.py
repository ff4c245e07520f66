"""The splits of Karpathy and Fei-Fei 2015, as of COCO, Flickr8k and Flickr30k.

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
from clipin_jax.data.formats.json_file import captions_of, check_row, read_json, rows_of
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError, check_choice

_log = logging.getLogger(__name__)


class Karpathy:
    """One record per image of a split, with all its sentences, in the file's order.

    Args:
      folder: where the data lies.
      file: the JSON file, relative to the folder.
      split: "train", "val", "test"; several joined by "+", as "train+restval".
      images: the folder of the files, relative to the folder. An entry's `filepath`,
        if it has one, is a folder inside that one.

    Images without a sentence are left out, and how many is logged as a warning.

    Raises:
      ClipinError: the JSON file is missing, malformed, empty or lacks keys, there is no
        such split, image files are missing.
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
        entries = rows_of(data, "images", keys, path)
        known, splits = sorted({entry["split"] for entry in entries}), split.split("+")
        for part in splits:
            check_choice("karpathy.split", part, known)
        self._records = [
            (_name(entry), _sentences(entry, f"captions file {path}: images[{number}]"))
            for number, entry in enumerate(entries)
            if entry["split"] in splits
        ]
        self._leave_out_silent(path)
        check_images([name for name, _ in self._records], self._images, path)
        self.fingerprint = fingerprint("karpathy 1", content, sorted(splits))

    def _leave_out_silent(self, path: str) -> None:
        count = len(self._records)
        self._records = [record for record in self._records if record[1]]
        if not self._records:
            raise ClipinError(f"captions file {path}: no image has a sentence")
        silent = count - len(self._records)
        if silent:
            _log.warning("%s: left out %d images without sentences", path, silent)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """The captions of a record, without reading its file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return {"captions": self._records[index][1]}

    def describe(self, index: int) -> str:
        """The image file of a record."""
        return storage.join(self._images, self._records[index][0])


def _name(entry: dict[str, Any]) -> str:
    inside = entry.get("filepath")
    return f"{inside}/{entry['filename']}" if inside else entry["filename"]


def _sentences(entry: dict[str, Any], where: str) -> tuple[str, ...]:
    for number, sentence in enumerate(entry["sentences"]):
        check_row(sentence, {"raw": str}, f"{where}.sentences[{number}]")
    return captions_of(sentence["raw"] for sentence in entry["sentences"])
