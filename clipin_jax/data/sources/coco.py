"""Images with captions in the layout of COCO captions (Chen et al. 2015).

    FOLDER/captions_train.json   {"images": [{"id": 9, "file_name": "9.jpg"}, ...],
                                  "annotations": [{"image_id": 9, "caption": "..."}]}
    FOLDER/images/9.jpg

Chen et al. 2015, "Microsoft COCO captions: data collection and evaluation server".
"""

from __future__ import annotations

import glob
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from clipin_jax.data import storage
from clipin_jax.data.formats.folders import check_images
from clipin_jax.data.formats.json_file import captions_of, first_few, read_json, rows_of
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError, check_choice

_log = logging.getLogger(__name__)


class Coco:
    """One record per image, with all its captions.

    The official layout is `captions="annotations/captions_{split}2014.json"`,
    `images="{split}2014"`.

    Args:
      folder: where the data lies.
      split: replaces "{split}" in `captions` and `images`.
      captions: the JSON file, relative to the folder.
      images: the folder of the files, relative to the folder.
      labels: None; or "category": each image's `category_id` becomes the index of that
        entry in the JSON's `categories`; or "objects": each image's list of names
        becomes a list of indices into all names that occur in any split's JSON, sorted.
      boxes: "", or a JSON file of objects as `annotations/instances_{split}2014.json`,
        relative to the folder. Annotations then have `boxes` too: a tuple of (category,
        left, top, width, height) in pixels; crowds are left out.

    Annotations may have a `kind`, as "human"; those without one are of the kind "".

    Images without a caption (or, with `labels`, without a label) are left out, and
    how many is logged as a warning.

    Raises:
      ClipinError: a file or folder is missing, the JSON is malformed, empty or lacks
        keys, captions name absent images, image files are missing.
    """

    def __init__(
        self,
        folder: str,
        split: str = "train",
        captions: str = "captions_{split}.json",
        images: str = "images",
        labels: str | None = None,
        boxes: str = "",
    ):
        check_choice("coco.labels", labels, (None, "category", "objects"))
        root = os.path.expanduser(folder)
        if not (storage.is_remote(root) or os.path.isdir(root)):
            raise ClipinError(f"data folder {root} does not exist; set source.folder")
        self._file = storage.join(root, captions.replace("{split}", split))
        self._images = storage.join(root, images.replace("{split}", split))
        content, data = read_json(self._file, "source.captions and source.split")
        entries, texts = _tables(data, self._file)
        label_of, self.classes = None, ()
        if labels == "category":
            label_of, self.classes = _categories(data, self._file)
        elif labels == "objects":
            every_split = captions.replace("{split}", "*")
            splits = storage.expand(storage.join(glob.escape(root), every_split))
            label_of, self.classes = _objects(splits)
        held = b""
        if boxes:
            held = _add_boxes(
                texts, storage.join(root, boxes.replace("{split}", split))
            )
        self._records = _join(entries, texts, label_of, self._file)
        check_images([name for name, _ in self._records], self._images, self._file)
        self.fingerprint = fingerprint(
            "coco 1", content, labels, self.classes, *([held] if boxes else [])
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions and label of a record, without reading its file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._records[index][1]

    def describe(self, index: int) -> str:
        """The image file of a record."""
        return storage.join(self._images, self._records[index][0])


def _tables(
    data: dict[str, Any], file: str
) -> tuple[dict[Any, dict[str, Any]], dict[Any, Annotations]]:
    """Image entries by id; captions, and kinds if there are any, by image id."""
    images = rows_of(data, "images", {"id": (int, str), "file_name": str}, file)
    rows = rows_of(data, "annotations", {"image_id": (int, str), "caption": str}, file)
    entries = {entry["id"]: entry for entry in images}
    if len(entries) < len(images):
        raise ClipinError(
            f"captions file {file}: {len(images) - len(entries)} entries of 'images' "
            "repeat an id"
        )
    texts, some_kind = defaultdict(list), any("kind" in row for row in rows)
    for row in rows:
        for text in captions_of([row["caption"]]):
            texts[row["image_id"]].append((text, str(row.get("kind", ""))))
    absent = [key for key in texts if key not in entries]
    if absent:
        raise ClipinError(
            f"captions file {file}: captions of {len(absent)} images that are not in "
            f"its 'images' (image_id {first_few(absent)}); remove them or add the "
            "images"
        )
    said = {}
    for key, pairs in texts.items():
        captions, kinds = zip(*pairs, strict=True)
        kinds = {"kinds": kinds} if some_kind else {}
        said[key] = {"captions": captions, **kinds}
    return entries, said


def _add_boxes(said: dict[Any, Annotations], file: str) -> bytes:
    """Puts `boxes` into the annotations of each image; returns the file's bytes."""
    content, data = read_json(file, "source.boxes")
    rows = rows_of(data, "categories", {"id": (int, str), "name": str}, file)
    names = {row["id"]: row["name"] for row in rows}
    keys = {"image_id": (int, str), "category_id": (int, str), "bbox": list}
    found = defaultdict(list)
    for number, row in enumerate(rows_of(data, "annotations", keys, file)):
        numbers = [x for x in row["bbox"] if isinstance(x, int | float)]
        name = names.get(row["category_id"])
        if len(numbers) != 4 or len(row["bbox"]) != 4 or name is None:
            raise ClipinError(
                f"captions file {file}: annotations[{number}] has no valid 'bbox' of 4 "
                "numbers, or a category_id that is not in 'categories'"
            )
        if not row.get("iscrowd"):
            found[row["image_id"]].append((name, *numbers))
    for key in said:
        said[key]["boxes"] = tuple(found[key])
    return content


def _categories(data: dict[str, Any], file: str):
    rows = rows_of(data, "categories", {"id": (int, str), "name": str}, file)
    place = {str(row["id"]): number for number, row in enumerate(rows)}

    def label_of(entry: dict[str, Any]) -> int | None:
        if "category_id" not in entry:
            return None
        if str(entry["category_id"]) not in place:
            raise ClipinError(
                f"captions file {file}: image {entry['file_name']} has category_id "
                f"{entry['category_id']!r}, which is not in 'categories'"
            )
        return place[str(entry["category_id"])]

    return label_of, tuple(row["name"] for row in rows)


def _objects(splits: Sequence[str]):
    names = set()
    for file in splits:
        _, data = read_json(file, "source.captions")
        for entry in rows_of(data, "images", {"file_name": str}, file):
            names.update(_names(entry, file))
    classes = tuple(sorted(names))
    place = {name: number for number, name in enumerate(classes)}

    def label_of(entry: dict[str, Any]) -> list[int] | None:
        if "objects" not in entry:
            return None
        return sorted({place[name] for name in entry["objects"]})

    return label_of, classes


def _names(entry: dict[str, Any], file: str) -> list[str]:
    names = entry.get("objects", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ClipinError(
            f"captions file {file}: 'objects' of image {entry['file_name']} is no list "
            "of names"
        )
    return names


def _join(entries, texts, label_of, file: str) -> list[tuple[str, Annotations]]:
    """(file name, annotations) of each image that has all it needs."""
    records, unlabelled = [], 0
    for key, entry in entries.items():
        if key not in texts:
            continue
        annotations: Annotations = texts[key]
        if label_of is not None:
            label = label_of(entry)
            if label is None:
                unlabelled += 1
                continue
            annotations["label"] = label
        records.append((entry["file_name"], annotations))
    silent = len(entries) - len(texts)
    if silent:
        _log.warning("%s: left out %d images without captions", file, silent)
    if unlabelled:
        _log.warning("%s: left out %d images without labels", file, unlabelled)
    if not records:
        raise ClipinError(
            f"captions file {file}: no image has what is asked for "
            f"({silent} have no caption, {unlabelled} no label)"
        )
    return records
