"""A folder of images with a text file beside each, as programs that download leave it.

FOLDER/SPLIT/000001.jpg    FOLDER/SPLIT/000001.txt    at any depth
FOLDER/SPLIT/000002.png    FOLDER/SPLIT/000002.json
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clipin_jax import storage
from clipin_jax.data.formats.folders import list_folder, walk
from clipin_jax.data.formats.image_files import count_kinds, ending, is_image
from clipin_jax.data.formats.sample_texts import (
    SampleTexts,
    check_whole_json,
    text_parts,
)
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError

_MOST_PROBED = 20  # first images whose JSON is looked at
_log = logging.getLogger(__name__)


class CaptionFiles:
    """One record per image, sorted by name.

    The text of `a.jpg` is in `a.txt` or `a.jpg.txt`. Images are recognized as by
    `image_folder`. One without a text is a bad record; a warning says what else is in
    the folder.

    Args:
      folder: of the data.
      split: a folder inside it; "" for `folder` itself.
      captions: the extension of the file with the caption, "txt"; or a key in a JSON
        file, "json:caption". With several of these, the string is the kind of the
        caption.
      label: None; or the extension or key with the index of the class.
      classes: the names of the classes.

    Raises:
      ClipinError: no such folder, no image in it, or no image with a text.
    """

    def __init__(
        self,
        folder: str,
        split: str = "",
        captions: str | Sequence[str] = "txt",
        label: str | None = None,
        classes: Sequence[str] = (),
    ):
        if classes and not label:
            raise ClipinError(
                "caption_files.classes has names, but caption_files.label none"
            )
        self._root = storage.join(folder, split) if split else storage.join(folder, "")
        if list_folder(self._root) is None:
            raise ClipinError(
                f"folder {self._root} does not exist; set source.folder and "
                "source.split"
            )
        self.classes = tuple(classes)
        self._captions = text_parts("source.captions", captions)
        self._labels = text_parts("source.label", label) if label else []
        parts = self._captions + self._labels
        self._extensions = tuple(dict.fromkeys(part.extension for part in parts))
        names = list(walk(self._root))
        self._names = [n for n in names if is_image(storage.join(self._root, n))]
        self._present = {_lower_ending(name): name for name in names}
        self._check(names)
        self.fingerprint = fingerprint(
            "caption_files 1",
            self._names,
            [self._text_names(name) for name in self._names],
            (self._captions, self._labels, self.classes),
        )

    def _check(self, names: Sequence[str]) -> None:
        """Checks that an image has a text; warns of other files."""
        texts = {t for name in self._names for t in self._text_names(name) if t}
        others = [name for name in names if name not in {*texts, *self._names}]
        if not self._names or not texts:
            wanted = " or ".join(part.name for part in self._captions)
            missing = f"image with {wanted} beside it" if self._names else "image"
            kinds = count_kinds(others) or "no other files"
            raise ClipinError(
                f"{self._root} has no {missing}; there are {len(self._names)} images"
                f" and {kinds}: set source.folder, or "
                "source.captions to the ending of the texts, as 'txt' or 'json:caption'"
            )
        if others:
            message = "%s: left out %d files that are no images and no texts of one: %s"
            _log.warning(message, self._root, len(others), count_kinds(others))
        arguments = {"source.captions": self._captions, "source.label": self._labels}
        for argument, parts in arguments.items():
            for part in parts:
                if part.is_json and part.keys is None:
                    for name in self._names[:_MOST_PROBED]:
                        content = self._read_texts(name)[part.extension]
                        check_whole_json(argument, part, content)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record without reading its image."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        sample = SampleTexts(self._read_texts(self._names[index]))
        return sample.annotations(self._captions, self._labels, len(self.classes))

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return storage.join(self._root, self._names[index])

    def _text_names(self, image: str) -> list[str]:
        """Returns the file of each extension beside an image, "" if there is none."""
        stem = image[: len(image) - len(ending(image))]
        return [
            self._present.get(f"{stem}.{extension}")
            or self._present.get(f"{_lower_ending(image)}.{extension}", "")
            for extension in self._extensions
        ]

    def _read_texts(self, image: str) -> dict[str, bytes | None]:
        """Returns the content of each extension. Raises BadRecord, OSError."""
        names = zip(self._extensions, self._text_names(image), strict=True)
        return {
            extension: storage.read(storage.join(self._root, name)) if name else None
            for extension, name in names
        }


def _lower_ending(name: str) -> str:
    """Returns a name with its ending in lower case."""
    kind = ending(name)
    return name[: len(name) - len(kind)] + kind
