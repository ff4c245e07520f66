"""Images with captions in the layout of COCO captions (Chen et al. 2015).

    FOLDER/captions_train.json   {"images": [{"id": 9, "file_name": "9.jpg"}, ...],
                                  "annotations": [{"image_id": 9, "caption": "..."}]}
    FOLDER/images/9.jpg

Chen et al. 2015, "Microsoft COCO captions: data collection and evaluation server".
"""

from __future__ import annotations

import glob
import json
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from clipin_jax.data.source import Annotations, Record, check_choice, fingerprint
from clipin_jax.errors import ClipinError

_SHOWN = 3  # file names in a message before "..."
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
    ):
        check_choice("coco.labels", labels, (None, "category", "objects"))
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise ClipinError(f"data folder {root} does not exist; set source.folder")
        self._file = root / captions.replace("{split}", split)
        self._images = root / images.replace("{split}", split)
        content, data = _read(self._file)
        entries, texts = _tables(data, self._file)
        label_of, self.classes = None, ()
        if labels == "category":
            label_of, self.classes = _categories(data, self._file)
        elif labels == "objects":
            every_split = captions.replace("{split}", "*")
            files = glob.glob(os.path.join(glob.escape(str(root)), every_split))
            label_of, self.classes = _objects([Path(file) for file in files])
        self._records = _join(entries, texts, label_of, self._file)
        _check_files([name for name, _ in self._records], self._images, self._file)
        self.fingerprint = fingerprint("coco 1", content, labels, self.classes)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        name, annotations = self._records[index]
        return {"image": (self._images / name).read_bytes(), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions and label of a record, without reading its file."""
        return self._records[index][1]

    def describe(self, index: int) -> str:
        """The image file of a record."""
        return str(self._images / self._records[index][0])


def _read(file: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ClipinError(
            f"captions file {file} cannot be read ({error.strerror}); set "
            "source.captions and source.split"
        ) from error
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise ClipinError(
            f"captions file {file} is not valid JSON: line {error.lineno}, column "
            f"{error.colno}: {error.msg}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ClipinError(f"captions file {file} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ClipinError(f"captions file {file} holds no JSON object at the top")
    return content, data


def _tables(
    data: dict[str, Any], file: Path
) -> tuple[dict[Any, dict[str, Any]], dict[Any, list[str]]]:
    """Image entries by id, and captions by image id."""
    images = _rows(data, "images", {"id": (int, str), "file_name": str}, file)
    rows = _rows(data, "annotations", {"image_id": (int, str), "caption": str}, file)
    entries = {entry["id"]: entry for entry in images}
    if len(entries) < len(images):
        raise ClipinError(
            f"captions file {file}: {len(images) - len(entries)} entries of 'images' "
            "repeat an id"
        )
    texts = defaultdict(list)
    for row in rows:
        if row["caption"].strip():
            texts[row["image_id"]].append(row["caption"].strip())
    absent = [key for key in texts if key not in entries]
    if absent:
        raise ClipinError(
            f"captions file {file}: captions of {len(absent)} images that are not in "
            f"its 'images' (image_id {_some(absent)}); remove them or add the images"
        )
    return entries, texts


def _rows(
    data: dict[str, Any], table: str, keys: dict[str, Any], file: Path
) -> list[dict[str, Any]]:
    rows = data.get(table)
    if not isinstance(rows, list):
        raise ClipinError(f"captions file {file} has no list '{table}'")
    if not rows:
        raise ClipinError(f"captions file {file}: its list '{table}' is empty")
    for number, row in enumerate(rows):
        for key, kind in keys.items():
            if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                raise ClipinError(
                    f"captions file {file}: {table}[{number}] has no valid '{key}'"
                )
    return rows


def _categories(data: dict[str, Any], file: Path):
    rows = _rows(data, "categories", {"id": (int, str), "name": str}, file)
    place = {row["id"]: number for number, row in enumerate(rows)}

    def label_of(entry: dict[str, Any]) -> int | None:
        if "category_id" not in entry:
            return None
        if entry["category_id"] not in place:
            raise ClipinError(
                f"captions file {file}: image {entry['file_name']} has category_id "
                f"{entry['category_id']!r}, which is not in 'categories'"
            )
        return place[entry["category_id"]]

    return label_of, tuple(row["name"] for row in rows)


def _objects(files: list[Path]):
    names = set()
    for file in files:
        for entry in _rows(_read(file)[1], "images", {"file_name": str}, file):
            names.update(entry.get("objects", ()))
    classes = tuple(sorted(names))
    place = {name: number for number, name in enumerate(classes)}

    def label_of(entry: dict[str, Any]) -> list[int] | None:
        if "objects" not in entry:
            return None
        return sorted({place[name] for name in entry["objects"]})

    return label_of, classes


def _join(entries, texts, label_of, file: Path) -> list[tuple[str, Annotations]]:
    """(file name, annotations) of each image that has all it needs."""
    records, unlabelled = [], 0
    for key, entry in entries.items():
        if key not in texts:
            continue
        annotations: Annotations = {"captions": tuple(texts[key])}
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


def _check_files(names: list[str], images: Path, file: Path) -> None:
    """Demands that the files exist, listing each folder once, which stays fast."""
    if not images.is_dir():
        raise ClipinError(f"image folder {images} does not exist; set source.images")
    wanted = defaultdict(list)
    for name in names:
        wanted[(images / name).parent].append(name)
    missing = []
    for folder, inside in wanted.items():
        there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else {}
        missing += [name for name in inside if os.path.basename(name) not in there]
    if missing:
        raise ClipinError(
            f"{len(missing)} of {len(names)} image files named in {file} are not in "
            f"{images} ({_some(missing)}); add them, or remove their entries"
        )


def _some(values: list[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown + (", ..." if len(values) > _SHOWN else "")
