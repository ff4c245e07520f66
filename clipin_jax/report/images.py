"""Images inside the page itself, as data URLs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from clipin_jax.report.markup import Markup, tag

# Smaller images than this, in pixels, are enlarged without smoothing.
_PIXELATED_BELOW = 96
_LONGEST_SIDE = 128  # pixels of an image that is read from a file


class ImageRoom:
    """The bytes that the images of a page may still take.

    A page with more images than it has room for shows gaps in their place.
    """

    def __init__(self, size: int) -> None:
        """Starts with `size` bytes of HTML."""
        self._left = size

    def file(self, path: Path, alt: str) -> Markup:
        """Returns an image file as a small image; a gap if it is missing or damaged."""
        try:
            with Image.open(path) as image:
                shown = _thumbnail(image.convert("RGB"), alt, _LONGEST_SIDE)
        except (OSError, Image.DecompressionBombError):
            return tag("span", "missing", class_="gap")
        return self.take(shown)

    def take(self, image: Markup) -> Markup:
        """Returns an image, or a gap if it needs more bytes than are left."""
        if len(image) > self._left:
            return tag("span", "left out: the page is full", class_="gap")
        self._left -= len(image)
        return image


def pixels(image: np.ndarray, alt: str, longest_side: int) -> Markup:
    """Returns pixels as an image: as PNG if it is small, else as JPEG.

    Args:
      image: [H, W, 3] uint8.
      alt: its description.
      longest_side: larger images are scaled down to this many pixels.
    """
    return _thumbnail(Image.fromarray(image), alt, longest_side)


def _thumbnail(image: Image.Image, alt: str, longest_side: int) -> Markup:
    image.thumbnail((longest_side, longest_side))
    kind = "png" if max(image.size) < _PIXELATED_BELOW else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)
    source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    class_ = "pixels" if max(image.size) < _PIXELATED_BELOW else None
    width, height = image.size
    return tag("img", src=source, alt=alt, class_=class_, width=width, height=height)
