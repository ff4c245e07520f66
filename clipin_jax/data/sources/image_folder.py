"""Images in a folder per class; captions are made of class names.

    FOLDER/SPLIT/CLASS/*.jpg    at any depth inside the class

Such data serves to evaluate zero-shot classification and linear probes. Training on its
captions is training on labels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.folders import list_folder, walk
from clipin_jax.data.formats.image_files import (
    ENDINGS,
    count_kinds,
    ending,
    is_image,
)
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.source import Annotations, Record, clean_text, fingerprint
from clipin_jax.errors import ClipinError, first_few

_log = logging.getLogger(__name__)


class ImageFolder:
    """One record per image, sorted by class and name.

    Images are recognized by their ending, those without one by their content. A warning
    says how many other files there are. Hidden files and folders are left out. Links
    are followed; a broken link is a bad record.

    Args:
      folder: of the data.
      split: the folder of the classes, relative to `folder`; "" for `folder` itself.
      templates: captions; "{}" is replaced by the name of the class.
      names: "", or a JSON file, relative to `folder`, with two lists: `classes`, the
        class folders in label order, and `names`, the name of each class. Without it
        labels follow the sorted folders, and the name of a class is that of its folder,
        with spaces for underscores.

    Attributes:
      classes: the name of each class.

    Raises:
      ClipinError: no such folder, or no classes in it; a class without an image or not
        in `names`; a template without "{}"; or a malformed `names`.
    """

    def __init__(
        self,
        folder: str,
        split: str = "",
        templates: Sequence[str] = ("a photo of a {}.",),
        names: str = "",
    ):
        self._root = storage.join(folder, split) if split else storage.join(folder, "")
        listing = list_folder(self._root)
        if listing is None:
            raise ClipinError(
                f"image folder {self._root} does not exist; set source.folder and "
                "source.split"
            )
        folders = [name for name in listing.folders if name[0] != "."]
        if not folders:
            raise ClipinError(f"{self._root} has no folders, one for each class")
        class_names = {name: name.replace("_", " ") for name in folders}
        if names:
            path = storage.join(folder, names)
            class_names = _read_names(path, folders, self._root)
        self.classes = tuple(map(clean_text, class_names.values()))
        self._captions = [_fill(templates, name) for name in self.classes]
        left_out: list[str] = []
        self._files = [
            (label, name)
            for label, class_folder in enumerate(class_names)
            if class_folder in folders
            for name in _list_images(self._root, class_folder, left_out)
        ]
        left_out += [name for name in listing.files if ending(name) in ENDINGS]
        if left_out:
            message = "%s: left out %d files that are no images of a class: %s"
            _log.warning(message, self._root, len(left_out), count_kinds(left_out))
        self.fingerprint = fingerprint("image_folder 1", self._files, self._captions)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        label = self._files[index][0]
        return {"captions": self._captions[label], "label": label}

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return storage.join(self._root, self._files[index][1])


def _list_images(root: str, class_folder: str, left_out: list[str]) -> list[str]:
    """Returns the images of a class, relative to the folder of all classes.

    The other files are added to `left_out`.
    """
    folder = storage.join(root, class_folder)
    names, others = [], []
    for name in walk(folder):
        chosen = names if is_image(storage.join(folder, name)) else others
        chosen.append(name)
    if not names:
        raise ClipinError(
            f"class folder {folder} has no image ({count_kinds(others) or 'empty'}); "
            f"add some ({', '.join(ENDINGS[:4])}, ...), or remove the folder"
        )
    left_out += others
    return [f"{class_folder}/{name}" for name in names]


def _read_names(path: str, folders: list[str], root: str) -> dict[str, str]:
    """Returns the name of each class by its folder, in label order."""
    _, data = read_json(path, "source.names")
    classes, names = (_strings(data, key, path) for key in ("classes", "names"))
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


def _strings(data: Mapping[str, Any], key: str, path: str) -> list[str]:
    texts = data.get(key)
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ClipinError(f"{path} has no list '{key}' of strings")
    return texts


def _fill(templates: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(templates, str) or not templates:
        raise ClipinError(
            f"image_folder.templates is {templates!r}; it must be a list of captions"
        )
    for template in templates:
        if "{}" not in template:
            raise ClipinError(
                f'image_folder.templates: {template!r} has no "{{}}" for the class'
            )
    return tuple(template.replace("{}", name) for template in templates)
