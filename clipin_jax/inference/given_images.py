"""Images as a caller has them: files, encoded bytes, pixels, or images of Pillow."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipin_jax import storage
from clipin_jax.data.image.decode import decode, pixels_of
from clipin_jax.data.source import Annotations, BadRecord, Record, why_unusable
from clipin_jax.errors import ClipinError, shorten, shorten_path

_KINDS = "a path, bytes, an image of Pillow, or uint8 [H, W, 3]"


class GivenImages:
    """A source of images of any of these kinds, without captions and labels.

    They are decoded when they are read, by the code of evaluation.

    Args:
      images: one or many of: a file by path or URL; bytes of an encoded file; an image
        of Pillow; pixels [H, W, 3] uint8, or [B, H, W, 3] for many.

    Raises:
      ClipinError: nothing, a file that does not exist, or what is no image; with the
        place in the list.
    """

    classes: tuple[str, ...] = ()
    fingerprint = "given images"

    def __init__(self, images: Any) -> None:
        self._images = _as_list(images)
        if not self._images:
            raise ClipinError(f"there is no image: give at least one, as {_KINDS}")
        for index, image in enumerate(self._images):
            _check(image, index)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        """Returns the pixels of an image. Raises ClipinError if they cannot be read."""
        image: Any = self._images[index]
        try:
            if isinstance(image, str | Path):
                image = storage.read(storage.full_path(image))
            pixels = pixels_of(image) if _is_pillow(image) else decode(image)
        except (BadRecord, OSError) as error:
            raise ClipinError(
                f"{self.describe(index)} cannot be decoded: {why_unusable(error)}"
            ) from error
        return {"image": pixels, **self.annotations(index)}

    def annotations(self, index: int) -> Annotations:
        """Returns no captions."""
        return {"captions": ()}

    def describe(self, index: int) -> str:
        """Returns the place in the list, and the path if there is one."""
        image = self._images[index]
        path = f", {shorten_path(str(image))}," if isinstance(image, str | Path) else ""
        return f"image {index}{path}"


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, str | Path | bytes) or _is_pillow(images):
        return [images]
    if hasattr(images, "__array__"):
        pixels = np.asarray(images)
        return list(pixels) if pixels.ndim == 4 else [pixels]
    if not isinstance(images, Iterable):
        raise ClipinError(
            f"images are of type {type(images).__name__}: give one or many of {_KINDS}"
        )
    return [
        np.asarray(x) if hasattr(x, "__array__") and not _is_pillow(x) else x
        for x in images
    ]


def _is_pillow(image: Any) -> bool:
    """Tells whether an image is one of Pillow; who has one has imported it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _check(image: Any, index: int) -> None:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ClipinError(
                f"image {index} is an array of {image.dtype} {list(image.shape)}: give "
                "uint8 [H, W, 3], with values from 0 to 255"
            )
        if 0 in image.shape:
            raise ClipinError(f"image {index} has no pixels: {list(image.shape)}")
    elif isinstance(image, str | Path):
        if not storage.exists(storage.full_path(image)):
            raise ClipinError(
                f"image {index}, {shorten_path(str(image))}, does not exist"
            )
    elif not isinstance(image, bytes) and not _is_pillow(image):
        raise ClipinError(
            f"image {index} is of type {type(image).__name__}, "
            f"{shorten(repr(image), 40)}: give {_KINDS}"
        )
