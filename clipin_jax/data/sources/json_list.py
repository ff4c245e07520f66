"""Lists of images and captions in JSON, as ALBEF and BLIP take.

    [{"image": "coco/9.jpg", "caption": "..."},
     {"image": "vg/7.jpg", "caption": ["...", "..."]}]

The lists of ALBEF's pretraining name an image once for each of its captions. Such
entries stay records of their own, so that an epoch is every pair once, as it is there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from clipin_jax.data.formats.columns import (
    Columns,
    check_columns,
    expand_all,
    folder_of,
    image_path,
    read_image,
)
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.data.storage import exists
from clipin_jax.errors import ClipinError

_LOOKED_FOR = 100  # images of which at least one must exist


class JsonList:
    """One record per entry of the lists, one list after the other.

    Args:
      files: the lists: a pattern (see `storage.expand`), or several.
      folder: what the images' paths are relative to; "": the folder of the list. Whole
        paths and URLs stay as they are.
      image: the key with the image's file.
      captions: the key with one caption or a list of them; or several keys, which are
        then the kinds of the captions.
      label: None, or the key with the class, as its index or its name.
      classes: names of the classes in label order; (): those that occur, sorted.

    An entry that lacks something, or whose file is missing, is a bad record.

    Raises:
      ClipinError: a list is missing or malformed, no entry has one of the keys, none of
        the first hundred images exists.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        folder: str = "",
        image: str = "image",
        captions: str | Sequence[str] = "caption",
        label: str | None = None,
        classes: Sequence[str] = (),
    ):
        self._columns = Columns("json_list", image, captions, label, classes)
        wanted = (image, *self._columns.texts)
        self._entries: list[dict[str, Any]] = []
        contents, there = [], {}
        self._folders, self._ends = [], []  # of each list
        for path in expand_all("json_list", files):
            content, entries = read_json(path, "source.files", list)
            contents.append(content)
            _check(entries, path)
            there |= dict.fromkeys(key for entry in entries for key in entry)
            self._entries += [{key: one.get(key) for key in wanted} for one in entries]
            self._folders.append(folder or folder_of(path))
            self._ends.append(len(self._entries))
        check_columns(wanted, tuple(there), f"json_list.files {files}")
        self._columns.find_classes(entry[label] for entry in self._entries if label)
        self.classes = self._columns.classes
        self._check_images(files)
        parts = image, self._columns.captions, label, self.classes
        self.fingerprint = fingerprint("json_list 1", parts, *contents)

    def _check_images(self, files: str | Sequence[str]) -> None:
        paths = [self.describe(n) for n in range(min(len(self), _LOOKED_FOR))]
        if not any(map(exists, paths)):
            raise ClipinError(
                f"{files}: none of the first {len(paths)} images exists (the first is "
                f"{paths[0]}); set source.folder"
            )

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        if not isinstance(self._entries[index][self._columns.image], str):
            raise BadRecord("no picture")
        return {"image": read_image(self.describe(index), ""), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions, kinds and label of a record, without reading its file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._columns.annotations(self._entries[index])

    def describe(self, index: int) -> str:
        """The image file of a record."""
        name = self._entries[index][self._columns.image]
        return image_path(str(name), self._folders[bisect_right(self._ends, index)])


def _check(entries: list[Any], path: str) -> None:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ClipinError(f"captions file {path}: entry {number} is no JSON object")
