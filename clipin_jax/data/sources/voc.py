"""The layout of PASCAL VOC (Everingham et al. 2010), of 2007 and 2012.

    FOLDER/ImageSets/Main/trainval.txt    000005         FOLDER: VOCdevkit/VOC2007
    FOLDER/JPEGImages/000005.jpg
    FOLDER/Annotations/000005.xml         <object><name>chair</name><bndbox>...

Labels and boxes come from the annotations. `ImageSets/Main/CLASS_SPLIT.txt` has the
labels again, without boxes; it is not read, since the two may disagree.

Everingham et al. 2010, "The PASCAL visual object classes (VOC) challenge".
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from clipin_jax import storage
from clipin_jax.data.class_names import class_names
from clipin_jax.data.formats.folders import check_images, list_folder
from clipin_jax.data.formats.labels import class_annotations
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError, shorten

_CLASSES = class_names("voc2007")
_INDEX = {name: index for index, name in enumerate(_CLASSES)}
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Object(NamedTuple):
    label: int
    difficult: bool
    box: tuple[float, float, float, float]  # left, top, width, height


class Voc:
    """One record per image of a split; the caption is the classes of its objects.

    An image without an object stays a record: its label is [].

    Args:
      folder: the folder of a year, as `VOCdevkit/VOC2007`.
      split: "train", "val", "trainval", "test": a file of `ImageSets/Main`.
      difficult: whether objects marked as difficult count. The challenge and most
        papers leave them out.

    Annotations have `boxes` too: a tuple of (class name, left, top, width, height) in
    pixels from the upper left corner; in the files pixels count from 1, and the last
    one is inside.

    Raises:
      ClipinError: a folder, list, annotation or image is missing; a list is empty or
        names an image twice; an annotation is malformed or has an unknown class.
    """

    classes = _CLASSES

    def __init__(self, folder: str, split: str = "trainval", difficult: bool = False):
        self._images = storage.join(folder, "JPEGImages")
        self._names = _split_names(folder, split)
        names = [f"{name}.jpg" for name in self._names]
        check_images(names, self._images, f"split {split!r} of {folder}")
        annotations = storage.join(folder, "Annotations")
        self._objects = [
            tuple(
                each
                for each in _read_objects(storage.join(annotations, f"{name}.xml"))
                if difficult or not each.difficult
            )
            for name in self._names
        ]
        self.fingerprint = fingerprint("voc 1", self._names, self._objects)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        return {"image": storage.read(self.describe(index)), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns caption, labels and boxes of a record without reading a file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        objects = self._objects[index]
        boxes = tuple((self.classes[each.label], *each.box) for each in objects)
        labels = sorted({each.label for each in objects})
        return {**class_annotations(self.classes, labels), "boxes": boxes}

    def describe(self, index: int) -> str:
        """Returns the image file of a record."""
        return storage.join(self._images, f"{self._names[index]}.jpg")


def _split_names(folder: str, split: str) -> list[str]:
    """Returns the names of a split's images, in the order of its list."""
    lists = storage.join(folder, "ImageSets/Main")
    listing = list_folder(lists)
    if listing is None:
        raise ClipinError(
            f"{lists} does not exist; set source.folder to the folder of a year, as "
            "VOCdevkit/VOC2007"
        )
    if f"{split}.txt" not in listing.files:
        # The other lists, CLASS_SPLIT.txt, are of one class each.
        splits = [n[:-4] for n in listing.files if n.endswith(".txt") and "_" not in n]
        known = ", ".join(splits) or "none"
        raise ClipinError(
            f"{lists} has no {split}.txt; there are {known}. Set source.split"
        )
    path = storage.join(lists, f"{split}.txt")
    names = _read(path).decode(errors="replace").split()
    if not names or len(set(names)) < len(names):
        wrong = "names an image twice" if names else "is empty"
        raise ClipinError(f"{path} {wrong}; correct it, or set source.split")
    return names


def _read_objects(path: str) -> list[_Object]:
    """Returns the objects of an annotation file, in its order."""
    try:
        root = ElementTree.fromstring(_read(path))
    except ElementTree.ParseError as error:
        raise ClipinError(f"{path} is not valid XML: {error}") from error
    # Only direct children: an object may have parts, with boxes of their own.
    return [
        _parse_object(element, f"{path}: object {number + 1}")
        for number, element in enumerate(root.findall("object"))
    ]


def _parse_object(element: ElementTree.Element, where: str) -> _Object:
    name = (element.findtext("name") or "").strip()
    if name not in _INDEX:
        raise ClipinError(f"{where} is a {shorten(name)!r}, which is no class of VOC")
    try:
        sides = [float(element.findtext(f"bndbox/{side}") or "") for side in _SIDES]
        difficult = bool(int(element.findtext("difficult") or 0))
    except ValueError as error:
        raise ClipinError(f"{where} has no valid box or mark: {error}") from error
    left, top = sides[0] - 1, sides[1] - 1
    width, height = sides[2] - left, sides[3] - top
    # A comparison with NaN is false too.
    if not (width > 0 and height > 0):
        raise ClipinError(f"{where} has an empty box: {', '.join(map(str, sides))}")
    return _Object(_INDEX[name], difficult, (left, top, width, height))


def _read(path: str) -> bytes:
    try:
        return storage.read(path)
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or error}); set source.folder"
        ) from error
