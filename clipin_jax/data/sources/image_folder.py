"""Images sorted into a folder per class; captions are made of the classes' names.

    FOLDER/SPLIT/CLASS/*.jpg    at any depth inside the class

Training on such captions is training on labels, and it is what zero-shot classification
and linear probing are evaluated on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax.data import storage
from clipin_jax.data.formats.folders import list_folder, walk
from clipin_jax.data.formats.json_file import clean, first_few, read_json
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_log = logging.getLogger(__name__)


class ImageFolder:
    """One record per image, class by class, each by name.

    Images are known by their ending; hidden files and folders are left out. Links are
    followed, and one that leads nowhere is a record that cannot be read.

    Args:
      folder: where the data lies.
      split: the folder of the classes, relative to the folder; "": the folder itself.
      templates: captions, "{}" is where the words for the class go.
      names: "", or a JSON file, relative to the folder, with the list `classes`, the
        names of the class folders in label order, and the list `names`, the words for
        each. Without it labels follow the folders' names, and the words are those
        names with spaces for underscores.

    Attributes:
      classes: the words for each class.

    Raises:
      ClipinError: no such folder, no classes in it, one of them without an image or not
        in `names`; a template without "{}"; `names` is malformed.
    """

    def __init__(
        self,
        folder: str,
        split: str = "",
        templates: Sequence[str] = ("a photo of a {}.",),
        names: str = "",
    ):
        self._root = storage.join(folder, split) if split else storage.join(folder, "")
        found = list_folder(self._root)
        if found is None:
            raise ClipinError(
                f"image folder {self._root} does not exist; set source.folder and "
                "source.split"
            )
        folders = [name for name in found.folders if name[0] != "."]
        if not folders:
            raise ClipinError(f"{self._root} has no folders, one for each class")
        words = {name: name.replace("_", " ") for name in folders}
        if names:
            words = _words(storage.join(folder, names), folders, self._root)
        self.classes = tuple(map(clean, words.values()))
        self._captions = [_filled(templates, word) for word in self.classes]
        self._files = [
            (label, name)
            for label, inside in enumerate(words)
            if inside in folders
            for name in _pictures(self._root, inside)
        ]
        self.fingerprint = fingerprint("image_folder 1", self._files, self._captions)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions and label of a record, without reading its file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        label = self._files[index][0]
        return {"captions": self._captions[label], "label": label}

    def describe(self, index: int) -> str:
        """The image file of a record."""
        return storage.join(self._root, self._files[index][1])


def _pictures(root: str, inside: str) -> list[str]:
    """The images of a class, relative to the folder of all classes."""
    found = walk(storage.join(root, inside))
    names = [f"{inside}/{name}" for name in found if name.lower().endswith(_ENDINGS)]
    if not names:
        raise ClipinError(
            f"class folder {storage.join(root, inside)} has no image "
            f"({', '.join(_ENDINGS)}); add some, or remove the folder"
        )
    return names


def _words(path: str, folders: list[str], root: str) -> Mapping[str, str]:
    """The words for each class, by the name of its folder, in label order."""
    _, data = read_json(path, "source.names")
    tables = [_strings(data, table, path) for table in ("classes", "names")]
    classes, names = tables
    if len(classes) != len(names) or len(set(classes)) < len(classes):
        raise ClipinError(
            f"{path} has {len(set(classes))} different 'classes' and {len(names)} "
            "'names'; there must be a name for each class"
        )
    unknown = sorted(set(folders) - set(classes))
    if unknown:
        raise ClipinError(
            f"{path}: its 'classes' lack {len(unknown)} folders of {root} "
            f"({first_few(unknown)})"
        )
    absent = [name for name in classes if name not in folders]
    if absent:
        _log.warning("%s: no folder for %d classes of %s", root, len(absent), path)
    return dict(zip(classes, names, strict=True))


def _strings(data: Mapping[str, Any], table: str, path: str) -> list[str]:
    rows = data.get(table)
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise ClipinError(f"{path} has no list '{table}' of strings")
    return rows


def _filled(templates: Sequence[str], word: str) -> tuple[str, ...]:
    if isinstance(templates, str) or not templates:
        raise ClipinError(
            f"image_folder.templates is {templates!r}; it must be a list of captions"
        )
    for template in templates:
        if "{}" not in template:
            raise ClipinError(
                f'image_folder.templates: {template!r} has no "{{}}" for the class'
            )
    return tuple(template.replace("{}", word) for template in templates)
