"""Lists of images and captions in JSON, in the layout of ALBEF and BLIP.

    [{"image": "coco/9.jpg", "caption": "..."},
     {"image": "vg/7.jpg", "caption": ["...", "..."]}]

The lists of ALBEF's pretraining have an entry for each caption of an image. Each entry
is one record, so that an epoch has every pair of the list once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.columns import (
    Columns,
    check_columns,
    image_path,
    read_image,
)
from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.image_files import embedded_image
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.formats.nested_values import value_at
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError, shorten, shorten_path

_ENDINGS = (".json", ".json.gz")  # in a folder
_MOST_PROBED = 100  # first images, one of which must exist


class JsonList:
    """One record per entry of the lists, one list after the other.

    Args:
      files: the lists: a pattern (see `storage.expand`), or several.
      folder: base of the images' relative paths; "" for the folder of the list.
      image: the key with the image's file.
      captions: the key with one caption or a list of them; or several keys, which
        become the kinds of the captions. Dots join the keys of inner objects.
      label: None, or the key with the class, as its index or its name.
      classes: names of the classes in label order; () for those that occur, sorted.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.

    An entry without a value, or whose file is missing, is a bad record.

    Raises:
      ClipinError: a list is missing or malformed; no entry has one of the keys; or none
        of the first hundred images exists.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        folder: str = "",
        image: str = "image",
        captions: str | Sequence[str] = "caption",
        label: str | None = None,
        classes: Sequence[str] = (),
        label_separator: str = "",
    ):
        self._columns = Columns(
            "json_list", image, captions, label, classes, label_separator
        )
        keys = (image, *self._columns.texts)
        contents, present = [], {}
        # The entries of each list, and the folder of its images.
        self._lists: list[list[Mapping[str, Any]]] = []
        self._folders: list[str] = []
        for path in find_files(files, "json_list.files", _ENDINGS):
            content, entries = read_json(path, "source.files", list)
            contents.append(content)
            _check(entries, path)
            present |= dict.fromkeys(key for entry in entries for key in entry)
            values = [{key: value_at(entry, key) for key in keys} for entry in entries]
            # Keys with dots, which `entries` do not have.
            present |= {k: None for row in values for k in row if row[k] is not None}
            self._lists.append(list(values))
            self._folders.append(folder or storage.parent(path))
        self._records = Concatenation([len(entries) for entries in self._lists])
        check_columns(keys, tuple(present), f"json_list.files {files}")
        self._columns.check_labels({str(n): e for n, e in enumerate(self._lists)})
        self.classes = self._columns.classes
        self._check_images(files)
        chosen = image, self._columns.captions, label, self.classes
        self.fingerprint = fingerprint(
            "json_list 1", chosen, *contents, *filter(None, [label_separator])
        )

    def _check_images(self, files: str | Sequence[str]) -> None:
        paths = [self._image_path(n) for n in range(min(len(self), _MOST_PROBED))]
        if not any(storage.exists(p) or embedded_image(p) is not None for p in paths):
            raise ClipinError(
                f"{files}: none of the first {len(paths)} images exists (the first is "
                f"{shorten(paths[0])}); set source.folder"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        if not isinstance(self._entry(index)[self._columns.image], str):
            raise BadRecord("no image")
        return {"image": read_image(self._image_path(index), ""), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions, kinds and label of a record without reading its image."""
        return self._columns.annotations(self._entry(index))

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return shorten_path(self._image_path(index))

    def _image_path(self, index: int) -> str:
        """Returns the path of an image, or the image itself in base64."""
        name = str(self._entry(index)[self._columns.image])
        if embedded_image(name) is not None:
            return name
        return image_path(name, self._folders[self._records.locate(index)[0]])

    def _entry(self, index: int) -> Mapping[str, Any]:
        number, entry = self._records.locate(index)
        return self._lists[number][entry]


def _check(entries: list[Any], path: str) -> None:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ClipinError(f"captions file {path}: entry {number} is no JSON object")
