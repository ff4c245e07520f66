"""Arrays of images and labels in one file, in the layout of MedMNIST.

    retinamnist.npz    train_images [N, H, W, 3] or [N, H, W] uint8
                       train_labels [N, 1]; or [N, K] of 0 and 1 if images
                       belong to any number of K classes
                       val_images, val_labels, test_images, test_labels: the same

Yang et al. 2023, "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D
biomedical image classification".
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from clipin_jax import storage
from clipin_jax.data.class_names import class_names
from clipin_jax.data.content import HEAD, check_content
from clipin_jax.data.formats.labels import class_annotations
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError, check_choice, first_line

_ZIP = b"PK"  # starts every .npz file
_IMAGES, _LABELS = "_images", "_labels"
# Errors of numpy for files that are damaged, truncated or of another format.
_UNREADABLE = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Npz:
    """One record per image of a split; the caption is the name of its class.

    A split is kept in memory. A gray image gets three equal channels. The caption of an
    image of several classes joins their names by commas.

    Args:
      file: the .npz file, by path or URL.
      split: "train", "val", "test": the prefix of the arrays' names.
      classes: names of the classes in label order; the name of a data set in
        `class_names`, such as "retinamnist"; or () for the numbers of the labels, up to
        the largest of all splits.

    Raises:
      ClipinError: the file is missing or damaged, or has no such split; its arrays do
        not have these shapes and types; or a label is none of the classes.
    """

    def __init__(
        self, file: str, split: str = "train", classes: Sequence[str] | str = ()
    ):
        self._arguments = (file, split, classes)
        self._file, self._split = os.path.expanduser(file), split
        self._images, every_label = _read(self._file, split)
        self._labels = every_label[split]
        _check_images(self._images, f"{self._file}: {split}{_IMAGES}")
        for name, labels in every_label.items():
            _check_labels(labels, f"{self._file}: {name}{_LABELS}")
        if len(self._images) != len(self._labels):
            raise ClipinError(
                f"{self._file}: {split}{_IMAGES} has {len(self._images)} images, but "
                f"{split}{_LABELS} has {len(self._labels)} labels; correct the file"
            )
        self.classes = self._class_names(classes, _count(every_label.values()))
        self.fingerprint = fingerprint(
            "npz 1", _digest(self._images), _digest(self._labels), self.classes
        )

    def _class_names(
        self, classes: Sequence[str] | str, needed: int
    ) -> tuple[str, ...]:
        """Returns the names of the classes; the labels need at least `needed`."""
        names = class_names(classes) if isinstance(classes, str) else tuple(classes)
        names = names or tuple(map(str, range(needed)))
        if len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
            raise ClipinError(
                f"npz.classes is {classes!r}; it must be a list of different names"
            )
        is_multi = _is_multi(self._labels)
        if needed > len(names) or is_multi and needed < len(names):
            raise ClipinError(
                f"{self._file}: {self._split}{_LABELS} needs {needed} classes, but "
                f"source.classes has {len(names)} names; set as many, in label order"
            )
        return names

    # A worker process reads the file again: arrays may be too large to send.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: pixels."""
        annotations = self.annotations(index)
        pixels = self._images[index]
        if pixels.ndim == 2:
            pixels = np.stack([pixels] * 3, axis=-1)
        return {"image": pixels, **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns caption and label of a record; a list if there may be several."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._labels[index]
        label = row.nonzero()[0].tolist() if _is_multi(self._labels) else int(row[0])
        return class_annotations(self.classes, label)

    def describe(self, index: int) -> str:
        """Returns array and file of a record."""
        return f"image {index} of {self._split}{_IMAGES} in {self._file}"


def _read(path: str, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the images of a split, and the labels [N, K] of all splits by name."""
    try:
        head = storage.read_range(path, 0, HEAD)
        if not head.startswith(_ZIP):
            check_content(head, path, ".npz file of arrays", "source.file")
        with _open(path) as content, np.load(content) as arrays:
            splits = [n.removesuffix(_IMAGES) for n in arrays if n.endswith(_IMAGES)]
            if not splits:
                raise ClipinError(
                    f"{path} has no array {split}{_IMAGES}; there are "
                    f"{', '.join(arrays) or 'none'}. Set source.file"
                )
            check_choice("npz.split", split, splits)
            absent = [n for n in splits if n + _LABELS not in arrays]
            if absent:
                raise ClipinError(f"{path} has no array {absent[0]}{_LABELS}; add it")
            labels = {name: arrays[name + _LABELS] for name in splits}
            images = arrays[split + _IMAGES]
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or first_line(error)}); set "
            "source.file"
        ) from error
    # A single array that is not in an archive is no context manager.
    except (*_UNREADABLE, TypeError) as error:
        # Of any other file numpy says that it may be a pickle, to be loaded unsafely.
        is_zip = head.startswith(_ZIP)
        reason = first_line(error) if is_zip else "it is no archive of np.savez"
        raise ClipinError(
            f"{path} is not a valid .npz file of arrays: {reason}"
        ) from error
    return images, {n: v[:, None] if v.ndim == 1 else v for n, v in labels.items()}


def _open(path: str) -> BinaryIO:
    return (
        io.BytesIO(storage.read(path)) if storage.is_remote(path) else open(path, "rb")
    )


def _check_images(images: np.ndarray, where: str) -> None:
    shape = images.shape
    is_image = len(shape) == 3 or len(shape) == 4 and shape[3] == 3
    if images.dtype != np.uint8 or not is_image or 0 in shape:
        raise ClipinError(
            f"{where} is {images.dtype} {list(shape)}; it must be uint8 [N, H, W] or "
            "[N, H, W, 3]"
        )


def _check_labels(labels: np.ndarray, where: str) -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or 0 in labels.shape:
        raise ClipinError(
            f"{where} is {labels.dtype} {list(labels.shape)}; it must be whole numbers "
            "[N, 1] or [N, K]"
        )
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or _is_multi(labels) and most > 1:
        allowed = "0 and 1" if _is_multi(labels) else "at least 0"
        raise ClipinError(
            f"{where} has labels from {least} to {most}; they must be {allowed}"
        )


def _is_multi(labels: np.ndarray) -> bool:
    return labels.shape[1] > 1


def _count(every_label: Any) -> int:
    """Returns how many classes the labels of all splits need."""
    return max(
        labels.shape[1] if _is_multi(labels) else int(labels.max()) + 1
        for labels in every_label
    )


def _digest(array: np.ndarray) -> str:
    content = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return f"{array.dtype}{array.shape}{content}"
