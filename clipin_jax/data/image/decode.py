"""Encoded pictures to arrays: whatever the file, upright RGB pixels come out.

For training, a complete JPEG is decoded by libjpeg-turbo, and only as large as it is
needed: scaled inside the decoder, which saves most of the work for a photograph. Pillow
does the rest, and all of evaluation, since published weights were evaluated with it:
other decoders fill the missing part of a truncated JPEG in silence, do not put
transparency on white, and read fewer kinds of files.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from clipin_jax.data.source import BadRecord

# The pipeline has threads of its own; a second pool underneath only makes them wait.
cv2.setNumThreads(1)

# Pillow warns of what is over half its own limit; ours is lower and is an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

MAX_PIXELS = 80_000_000  # of a file: more is taken for a bomb

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_EXIF_SEGMENT, _PICTURE_FOLLOWS = 0xE1, 0xDA
_ORIENTATION = 0x0112  # the EXIF tag that says how a camera was held
_UPRIGHT = (None, 0, 1)
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


class OpenImage(NamedTuple):
    """A picture that is not decoded yet; height and width are those of upright pixels.

    data: an encoded file, or pixels.
    scalable: whether `pixels` may decode less than all of it.
    """

    data: bytes | np.ndarray
    height: int
    width: int
    scalable: bool

    def pixels(self, share: float = 1.0) -> np.ndarray:
        """[H, W, 3] uint8, of at least `share` of height and width.

        Raises:
          BadRecord: the file is damaged or cut off.
        """
        if isinstance(self.data, np.ndarray):
            return _from_array(self.data)
        # Only up to a half is scaling fast: between that and the whole it takes longer
        # than to decode everything (640 x 480: 1.9 ms at 6/8, 1.35 whole, 1.2 half).
        if not self.scalable or share > 0.5:
            least = {}
        else:
            least = dict(
                min_height=int(np.ceil(share * self.height)),
                min_width=int(np.ceil(share * self.width)),
            )
        if self.scalable:
            try:
                return simplejpeg.decode_jpeg(self.data, **least)
            except ValueError:
                pass  # Pillow may read it, or says what is wrong
        return decode(self.data)


def open_image(data: bytes | np.ndarray, max_pixels: int = MAX_PIXELS) -> OpenImage:
    """Reads the header of a picture.

    Args:
      data: as for `decode`.
      max_pixels: how many pixels a picture may have; checked before any is decoded.

    Raises:
      BadRecord: the data is empty, not a picture or too large.
    """
    if isinstance(data, np.ndarray):
        if data.ndim not in (2, 3) or 0 in data.shape:
            raise BadRecord(f"no picture: array of {data.dtype} {list(data.shape)}")
        return OpenImage(data, *data.shape[:2], scalable=False)
    if not data:
        raise BadRecord("the file is empty")
    header = _read_jpeg_header(data)
    picture = OpenImage(data, *header, scalable=True) if header else _open_any(data)
    if picture.height * picture.width > max_pixels:
        raise BadRecord(
            f"the picture has {picture.height} x {picture.width} pixels, more than "
            f"{max_pixels:,} in all"
        )
    return picture


def decode(data: bytes | np.ndarray, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An upright RGB picture, decoded by Pillow.

    Args:
      data: an encoded file (JPEG, PNG, WebP, GIF, BMP, TIFF: what Pillow reads), or
        pixels [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8 or uint16.
      max_pixels: how many pixels a picture may have; checked before any is decoded.

    Returns:
      [H, W, 3] uint8. Turned as the EXIF tag says, transparency on white, 16 bits cut
      to 8, of an animation the first frame.

    Raises:
      BadRecord: the data is empty, damaged, cut off, too large or not a picture.
    """
    open_image(data, max_pixels)
    if isinstance(data, np.ndarray):
        return _from_array(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        raise BadRecord(_reason(error)) from error


def _read_jpeg_header(data: bytes) -> tuple[int, int] | None:
    """Height and width of a whole, upright JPEG in usual colours, None for all else."""
    if data[:3] != _JPEG_START or data[-64:].rstrip(b"\0\r\n")[-2:] != _JPEG_END:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours in ("CMYK", "YCCK") or _orientation(data) not in _UPRIGHT:
        return None
    return height, width


def _orientation(data: bytes) -> int | None:
    """The EXIF tag of a JPEG; its segments before the picture are few and short."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1] != _PICTURE_FOLLOWS:
        if data[place + 1] == _EXIF_SEGMENT and data[place + 4 : place + 8] == b"Exif":
            break
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    else:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged tag says nothing
        return None


def _open_any(data: bytes) -> OpenImage:
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                height, width = width, height
    # Pillow's readers raise a dozen types on damaged files (OSError, SyntaxError,
    # struct.error, IndexError ...); to us they are one.
    except Exception as error:
        raise BadRecord(_reason(error)) from error
    return OpenImage(data, height, width, scalable=False)


def _reason(error: Exception) -> str:
    text = str(error).replace(" <_io.BytesIO", "").split(" object at")[0]
    return f"{type(error).__name__}: {text}"


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode[0] in "IF":  # 16 or 32 bits: Pillow would clip, not scale
        return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.has_transparency_data:
        return _from_array(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _from_array(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise BadRecord(f"no picture: array of {image.dtype} {list(image.shape)}")
    if channels not in (1, 3, 4):
        raise BadRecord(f"{channels} channels; a picture has 1, 3 or 4")
    if channels == 1:
        return cv2.cvtColor(image.reshape(image.shape[:2]), cv2.COLOR_GRAY2RGB)
    if channels == 4:
        alpha = image[..., 3:].astype(np.uint16)
        on_white = image[..., :3] * alpha + 255 * (255 - alpha)
        return ((on_white + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(image)
