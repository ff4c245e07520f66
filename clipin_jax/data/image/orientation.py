"""Reads the orientation of an image, and turns its pixels upright.

Evaluation and training, `clipin data check` and `clipin data convert` all use these
functions, so that they see the same pixels.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_TAG = 0x0112  # of EXIF and of TIFF
_UPRIGHT = 1
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# One of these is in a PNG with an orientation.
_PNG_MARKS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_JPEG_APP1, _JPEG_SCAN, _JPEG_FILL = 0xE1, 0xDA, 0xFF
_JPEG_LENGTHLESS = {0x01, *range(0xD0, 0xDA)}


def pending_orientation(image: Image.Image, data: bytes | None = None) -> int:
    """Returns the orientation that an open image still has to be turned by, 1 to 8.

    It is that of EXIF, else that of XMP. Pillow turns a TIFF while it loads it, and
    gives its upright size before.

    Args:
      image: opened by Pillow, loaded or not.
      data: the file, if it is at hand.
    """
    if _TAG in getattr(image, "tag_v2", ()):
        return _UPRIGHT
    # Pillow decodes the whole PNG to find an orientation.
    if image.format == "PNG" and data is not None:
        if not any(mark in data for mark in _PNG_MARKS):
            return _UPRIGHT
    orientation = image.getexif().get(_TAG)
    return orientation if orientation in _TURNS else _UPRIGHT


def upright_size(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Returns (height, width) of the upright image."""
    width, height = image.size
    if pending_orientation(image, data) in _SIDEWAYS:
        return width, height
    return height, width


def turn_upright(image: Image.Image, data: bytes | None = None) -> Image.Image:
    """Loads an image and returns it upright."""
    image.load()
    turn = _TURNS.get(pending_orientation(image, data))
    return image if turn is None else image.transpose(turn)


def is_upright_jpeg(data: bytes) -> bool:
    """Tells whether the pixels of a JPEG are upright as they are stored."""
    if not _may_have_orientation(data):
        return True
    try:
        with Image.open(io.BytesIO(data)) as image:
            return pending_orientation(image, data) == _UPRIGHT
    except Exception:  # Pillow raises a dozen types of errors on damaged tags
        return True


def _may_have_orientation(data: bytes) -> bool:
    """Tells whether a JPEG has EXIF or XMP before its pixels, or an unusual header."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1] if at + 1 < len(data) else _JPEG_SCAN
        if marker == _JPEG_SCAN:
            return False
        if marker == _JPEG_FILL:
            at += 1
            continue
        if marker == _JPEG_APP1 or marker in _JPEG_LENGTHLESS:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return True


def as_array(image: Image.Image) -> np.ndarray:
    """Returns the samples of an image in the byte order of the machine."""
    samples = np.asarray(image)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)
