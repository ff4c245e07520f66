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


def png_file(path: Path, alt: str) -> Markup:
    """Returns a PNG file as an image; a gap if it is missing or damaged."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
    except OSError:
        return tag("span", "missing", class_="gap")
    return _inline(data, "png", size, alt)


def pixels(image: np.ndarray, alt: str, longest_side: int) -> Markup:
    """Returns pixels as an image: as PNG if it is small, else as JPEG.

    Args:
      image: [H, W, 3] uint8.
      alt: its description.
      longest_side: larger images are scaled down to this many pixels.
    """
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((longest_side, longest_side))
    kind = "png" if max(thumbnail.size) < _PIXELATED_BELOW else "jpeg"
    buffer = io.BytesIO()
    thumbnail.save(buffer, kind, quality=88)
    return _inline(buffer.getvalue(), kind, thumbnail.size, alt)


def _inline(data: bytes, kind: str, size: tuple[int, int], alt: str) -> Markup:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    class_ = "pixels" if max(size) < _PIXELATED_BELOW else None
    return tag("img", src=source, alt=alt, class_=class_)
