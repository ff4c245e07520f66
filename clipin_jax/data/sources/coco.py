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
from collections.abc import Callable, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.caption_values import captions_in
from clipin_jax.data.formats.folders import check_images
from clipin_jax.data.formats.json_file import read_json, read_rows
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    fingerprint,
)
from clipin_jax.errors import (
    ClipinError,
    check_choice,
    first_few,
    shorten,
    shorten_path,
)

_LabelOf = Callable[[dict[str, Any]], int | list[int] | None]
_Labels = tuple[_LabelOf, tuple[str, ...]]  # label of an image's entry; classes
_log = logging.getLogger(__name__)


class Coco:
    """One record per image, with all its captions.

    The official layout is `captions="annotations/captions_{split}2014.json"`,
    `images="{split}2014"`.

    Args:
      folder: of the data.
      split: replaces "{split}" in `captions` and `images`.
      captions: the JSON file, relative to the folder.
      images: the folder of the files, relative to the folder.
      labels: None, "category" or "objects". "category": the label is the index of an
        image's `category_id` in the JSON's `categories`. "objects": the label is a list
        of indices of an image's `objects`, names, among those of all splits, sorted.
      boxes: "", or a JSON file of objects such as
        `annotations/instances_{split}2014.json`, relative to the folder. Annotations
        then also have `boxes`: (category, left, top, width, height) per object, in
        pixels, without crowds.

    An entry of the JSON's `annotations` may have a `kind` of caption, such as "human";
    the default is "".

    Images without a caption (or, with `labels`, without a label) are left out; a
    warning says how many. An image that is missing, or whose captions are null, is a
    bad record.

    Raises:
      ClipinError: a file or folder is missing; the JSON is malformed, empty or has no
        such keys; captions refer to absent images; all image files are missing.
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
        entries, annotations = _read_entries(data, self._file)
        label_of, self.classes = None, ()
        if labels == "category":
            label_of, self.classes = _read_categories(data, self._file)
        elif labels == "objects":
            every_split = captions.replace("{split}", "*")
            splits = storage.expand(storage.join(glob.escape(root), every_split))
            label_of, self.classes = _read_objects(splits)
        boxes_content = b""
        if boxes:
            path = storage.join(root, boxes.replace("{split}", split))
            boxes_content = _add_boxes(annotations, path)
        self._records = _join(entries, annotations, label_of, self._file)
        names = [name for name, _ in self._records]
        check_images(names, self._images, self._file, lenient=True)
        self.fingerprint = fingerprint(
            "coco 1", content, labels, self.classes, *([boxes_content] if boxes else [])
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self._path(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        annotations = self._records[index][1]
        if not annotations["captions"]:
            raise BadRecord("no caption")
        return annotations

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return shorten_path(self._path(index))

    def _path(self, index: int) -> str:
        return storage.join(self._images, self._records[index][0])


def _read_entries(
    data: dict[str, Any], file: str
) -> tuple[dict[Any, dict[str, Any]], dict[Any, Annotations]]:
    """Returns the entries of images by id, and the annotations by image id."""
    images = read_rows(data, "images", {"id": (int, str), "file_name": str}, file)
    rows = read_rows(data, "annotations", {"image_id": (int, str)}, file)
    if not any(isinstance(row.get("caption"), str) for row in rows):
        raise ClipinError(
            f"captions file {file}: annotations[0] has no valid 'caption'"
        )
    entries = {entry["id"]: entry for entry in images}
    if len(entries) < len(images):
        raise ClipinError(
            f"captions file {file}: {len(images) - len(entries)} entries of 'images' "
            "repeat an id"
        )
    texts, has_kinds = defaultdict(list), any("kind" in row for row in rows)
    for row in rows:
        captions = captions_in(row.get("caption"))
        if captions is None:
            texts[row["image_id"]] += []  # a bad record, unless it has another caption
            continue
        for text in captions:
            texts[row["image_id"]].append((text, str(row.get("kind", ""))))
    absent = [key for key in texts if key not in entries]
    if absent:
        raise ClipinError(
            f"captions file {file}: captions of {len(absent)} images that are not in "
            f"its 'images' (image_id {first_few(absent)}); remove them or add the "
            "images"
        )
    annotations: dict[Any, Annotations] = {}
    for key, pairs in texts.items():
        annotations[key] = {"captions": tuple(text for text, _ in pairs)}
        if has_kinds:
            annotations[key]["kinds"] = tuple(kind for _, kind in pairs)
    return entries, annotations


def _add_boxes(annotations: dict[Any, Annotations], file: str) -> bytes:
    """Adds `boxes` to the annotations of each image. Returns the file's bytes."""
    content, data = read_json(file, "source.boxes")
    rows = read_rows(data, "categories", {"id": (int, str), "name": str}, file)
    names = {row["id"]: row["name"] for row in rows}
    keys = {"image_id": (int, str), "category_id": (int, str), "bbox": list}
    boxes = defaultdict(list)
    for number, row in enumerate(read_rows(data, "annotations", keys, file)):
        numbers = [x for x in row["bbox"] if isinstance(x, int | float)]
        name = names.get(row["category_id"])
        if len(numbers) != 4 or len(row["bbox"]) != 4 or name is None:
            raise ClipinError(
                f"captions file {file}: annotations[{number}] has no valid 'bbox' of 4 "
                "numbers, or a category_id that is not in 'categories'"
            )
        if not row.get("iscrowd"):
            boxes[row["image_id"]].append((name, *numbers))
    for key, of_image in annotations.items():
        of_image["boxes"] = tuple(boxes[key])
    return content


def _read_categories(data: dict[str, Any], file: str) -> _Labels:
    rows = read_rows(data, "categories", {"id": (int, str), "name": str}, file)
    index_of = {str(row["id"]): number for number, row in enumerate(rows)}

    def label_of(entry: dict[str, Any]) -> int | None:
        if "category_id" not in entry:
            return None
        if str(entry["category_id"]) not in index_of:
            raise ClipinError(
                f"captions file {file}: image {shorten(entry['file_name'])} has "
                f"category_id {shorten(repr(entry['category_id']))}, which is not in "
                "'categories'"
            )
        return index_of[str(entry["category_id"])]

    return label_of, tuple(row["name"] for row in rows)


def _read_objects(splits: Sequence[str]) -> _Labels:
    names = set()
    for file in splits:
        _, data = read_json(file, "source.captions")
        for entry in read_rows(data, "images", {"file_name": str}, file):
            names.update(_object_names(entry, file))
    classes = tuple(sorted(names))
    index_of = {name: number for number, name in enumerate(classes)}

    def label_of(entry: dict[str, Any]) -> list[int] | None:
        if "objects" not in entry:
            return None
        return sorted({index_of[name] for name in entry["objects"]})

    return label_of, classes


def _object_names(entry: dict[str, Any], file: str) -> list[str]:
    names = entry.get("objects", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ClipinError(
            f"captions file {file}: 'objects' of image {shorten(entry['file_name'])} "
            "is no list of names"
        )
    return names


def _join(
    entries: dict[Any, dict[str, Any]],
    annotations: dict[Any, Annotations],
    label_of: _LabelOf | None,
    file: str,
) -> list[tuple[str, Annotations]]:
    """Returns file name and annotations of each image that has what is needed."""
    records, unlabeled = [], 0
    for key, entry in entries.items():
        if key not in annotations:
            continue
        if label_of is not None:
            label = label_of(entry)
            if label is None:
                unlabeled += 1
                continue
            annotations[key]["label"] = label
        records.append((entry["file_name"], annotations[key]))
    uncaptioned = len(entries) - len(annotations)
    if uncaptioned:
        _log.warning("%s: left out %d images without captions", file, uncaptioned)
    if unlabeled:
        _log.warning("%s: left out %d images without labels", file, unlabeled)
    if not records:
        raise ClipinError(
            f"captions file {file}: no image has what is asked for "
            f"({uncaptioned} have no caption, {unlabeled} no label)"
        )
    return records
