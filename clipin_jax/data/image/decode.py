"""Decodes image files to upright RGB pixels.

For training, libjpeg-turbo decodes complete JPEG files, no larger than needed: the
decoder itself scales, which saves most of the work for a photograph. Pillow decodes all
other files, and all files of evaluation, since published weights were evaluated with
it. Other decoders fill the missing part of a truncated JPEG without an error, do not
put transparency on white, and read fewer formats.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import EpsImagePlugin, Image

from clipin_jax.data.content import HEAD, describe_content
from clipin_jax.data.image.levels import (
    check_colours,
    is_deep,
    reduce_array,
    reduce_levels,
)
from clipin_jax.data.image.orientation import (
    as_array,
    is_upright_jpeg,
    turn_upright,
    upright_size,
)
from clipin_jax.data.source import BadRecord

# The pipeline has its own threads; a second pool would only make them wait.
cv2.setNumThreads(1)

# Pillow warns above half of its limit; ours is lower and raises an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# PostScript is a program, which may never end; Ghostscript would run it.
EpsImagePlugin.gs_binary = False

MAX_PIXELS = 80_000_000  # a larger image may be a decompression bomb

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


class OpenImage(NamedTuple):
    """An image before decoding.

    data: an encoded file, or pixels.
    height, width: of the upright image.
    scalable: whether `pixels` may decode it smaller.
    """

    data: bytes | np.ndarray
    height: int
    width: int
    scalable: bool

    def pixels(self, share: float = 1.0) -> np.ndarray:
        """Returns [H, W, 3] uint8, of at least `share` of height and width.

        Raises:
          BadRecord: the file is damaged, truncated, or does not state the range of its
            samples.
        """
        if isinstance(self.data, np.ndarray):
            return _from_array(self.data)
        # Scaling is fast only up to a half: above, it takes longer than decoding the
        # whole image (640 x 480: 1.9 ms at 6/8, 1.35 ms whole, 1.2 ms at a half).
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
                pass  # Pillow may read it, or raise a better message
        return _decode_with_pillow(self.data)


def open_image(data: bytes | np.ndarray, max_pixels: int = MAX_PIXELS) -> OpenImage:
    """Reads the header of an image.

    Args:
      data: as for `decode`.
      max_pixels: bound on the pixels of an image.

    Raises:
      BadRecord: the data is empty, not an image or too large.
    """
    if isinstance(data, np.ndarray):
        if data.ndim not in (2, 3) or 0 in data.shape:
            raise BadRecord(f"no image: array of {data.dtype} {list(data.shape)}")
        return OpenImage(data, *data.shape[:2], scalable=False)
    if not data:
        raise BadRecord("the file is empty")
    header = _read_jpeg_header(data)
    image = OpenImage(data, *header, scalable=True) if header else _open_any(data)
    if image.height * image.width > max_pixels:
        raise BadRecord(
            f"the image has {image.height} x {image.width} pixels, more than "
            f"{max_pixels:,} in all"
        )
    return image


def decode(data: bytes | np.ndarray, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image with Pillow.

    Args:
      data: an encoded file (JPEG, PNG, WebP, GIF, BMP, TIFF: what Pillow reads), or
        pixels [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8 or uint16.
      max_pixels: bound on the pixels of an image, checked before it is decoded.

    Returns:
      [H, W, 3] uint8: turned upright by EXIF or XMP, transparency on white, more than
      8 bits reduced to 8 (see `levels`), the first frame of an animation.

    Raises:
      BadRecord: the data is empty, damaged, truncated, too large or not an image; or it
        does not state the range of its samples.
    """
    open_image(data, max_pixels)
    if isinstance(data, np.ndarray):
        return _from_array(data)
    return _decode_with_pillow(data)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Returns the pixels of an image of Pillow, as `decode` returns those of its file.

    Raises:
      BadRecord: its file is damaged or truncated; or it has more than 8 bits, whose
        range the file alone states.
    """
    try:
        if is_deep(image):
            raise BadRecord("it has more than 8 bits: give its file, or its 8-bit form")
        return _as_rgb(turn_upright(image))
    except BadRecord:
        raise
    except Exception as error:
        raise BadRecord(_reason(error)) from error


def _read_jpeg_header(data: bytes) -> tuple[int, int] | None:
    """Returns (height, width) of a complete, upright RGB or gray JPEG; else None."""
    if data[:3] != _JPEG_START or data[-64:].rstrip(b"\0\r\n")[-2:] != _JPEG_END:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours in ("CMYK", "YCCK") or not is_upright_jpeg(data):
        return None
    return height, width


def _open_any(data: bytes) -> OpenImage:
    try:
        with Image.open(io.BytesIO(data)) as image:
            height, width = upright_size(image, data)
    # Pillow raises a dozen types of errors on damaged files: OSError, SyntaxError,
    # struct.error, IndexError ...
    except Exception as error:
        content = describe_content(data[:HEAD])
        reason = f"no image, but {content}" if content else _reason(error)
        raise BadRecord(reason) from error
    return OpenImage(data, height, width, scalable=False)


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _to_rgb(image, data)
    except BadRecord:
        raise
    except Exception as error:
        raise BadRecord(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = str(error).replace(" <_io.BytesIO", "").split(" object at")[0]
    return f"{type(error).__name__}: {text}"


def _to_rgb(image: Image.Image, data: bytes) -> np.ndarray:
    upright = turn_upright(image, data)
    if is_deep(image):
        return _from_array(reduce_levels(as_array(upright), image, data))
    check_colours(image, data)
    return _as_rgb(upright)


def _as_rgb(upright: Image.Image) -> np.ndarray:
    """Returns [H, W, 3] uint8, transparency on white."""
    if upright.has_transparency_data:
        return _from_array(np.asarray(upright.convert("RGBA")))
    return np.array(upright.convert("RGB"))


def _from_array(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16 and image.size:
        image = reduce_array(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise BadRecord(f"no image: array of {image.dtype} {list(image.shape)}")
    if channels not in (1, 3, 4):
        raise BadRecord(f"{channels} channels; an image has 1, 3 or 4")
    if channels == 1:
        return cv2.cvtColor(image.reshape(image.shape[:2]), cv2.COLOR_GRAY2RGB)
    if channels == 4:
        alpha = image[..., 3:].astype(np.uint16)
        on_white = image[..., :3] * alpha + 255 * (255 - alpha)
        return ((on_white + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(image)
