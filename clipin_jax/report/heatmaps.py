"""Maps laid over images, and many of them as one sheet.

A map is scaled to [0, 1], enlarged by cubic splines, blurred with a deviation of 0.02
of the longer side, and scaled again. Its colour has the weight of its value to the
power of 0.7. Source: salesforce/ALBEF, `visualization.ipynb`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from clipin_jax.inference.saliency import enlarge

BLUR, POWER = 0.02, 0.7
CELL, GAP, LINE = 224, 10, 20  # pixels of a sheet: images, gaps, a line of text
_LONGEST_TITLE = 1200  # pixels
_INK, _PAPER = (29, 33, 38), (255, 255, 255)

LabelledImage = tuple[str, np.ndarray]  # label, [h, w, 3] uint8
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def heatmap(patch_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a map over patches as a map over pixels.

    Args:
      patch_map: [rows, columns].
      size: height and width in pixels.

    Returns:
      [height, width] from 0 to 1; all 0 if the map is constant.
    """
    large = enlarge(_scaled(np.asarray(patch_map, np.float64)), size)
    return _scaled(ndimage.gaussian_filter(large, BLUR * max(size)))


def _scaled(x: np.ndarray) -> np.ndarray:
    spread = np.ptp(x)
    # Differences at the level of rounding are none.
    if not np.isfinite(spread) or spread <= 1e-12 * np.abs(x).max():
        return np.zeros_like(x)
    return (x - x.min()) / spread


def colours(values: np.ndarray) -> np.ndarray:
    """Returns blue over green and yellow to red: [...] in [0, 1] to [..., 3]."""
    peaks = np.array([3.0, 2.0, 1.0])  # of red, green and blue, in quarters
    return np.clip(1.5 - np.abs(4 * values[..., None] - peaks), 0, 1)


def overlay(image: np.ndarray, patch_map: np.ndarray) -> np.ndarray:
    """Returns an image, [H, W, 3] uint8, with a map, [rows, columns], over it."""
    values = heatmap(patch_map, image.shape[:2])
    share = values[..., None] ** POWER
    mixed = (1 - share) * (image / 255) + share * colours(values)
    return np.round(255 * mixed).astype(np.uint8)


def sheet(rows: Sequence[Sequence[LabelledImage]], titles: Sequence[str]) -> np.ndarray:
    """Returns rows of labelled images as one image, [H, W, 3] uint8.

    Args:
      rows: the images of each row from left to right; rows may differ in length.
      titles: above each row.
    """
    font = ImageFont.load_default(13)
    heights = [_height(row) for row in rows]
    width = max(len(row) for row in rows) * (CELL + GAP) + GAP
    longest = max((int(font.getlength(title)) for title in titles), default=0)
    width = max(width, min(longest, _LONGEST_TITLE) + 2 * GAP)
    height = sum(h + 2 * LINE + GAP for h in heights) + GAP
    page = Image.new("RGB", (width, height), _PAPER)
    draw, top = ImageDraw.Draw(page), GAP
    for row, title, row_height in zip(rows, titles, heights, strict=True):
        draw.text((GAP, top), _fit(title, font, width - 2 * GAP), _INK, font)
        for number, (label, image) in enumerate(row):
            left = GAP + number * (CELL + GAP)
            draw.text((left, top + LINE), _fit(label, font, CELL), _INK, font)
            page.paste(_cell(image), (left, top + 2 * LINE))
        top += row_height + 2 * LINE + GAP
    return np.asarray(page)


def png(image: np.ndarray) -> bytes:
    """Returns an image, [H, W, 3] uint8, as the content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def magnified(image: np.ndarray) -> np.ndarray:
    """Returns an image, [H, W, 3] uint8, with a longer side of `CELL`.

    A sheet shows images at this size, so maps over them are smooth there.
    """
    return np.asarray(_cell(image))


def _cell(image: np.ndarray) -> Image.Image:
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def _height(row: Sequence[LabelledImage]) -> int:
    return max(_cell(image).size[1] for _, image in row)


def _fit(text: str, font: Font, width: int) -> str:
    """Returns as much of a text as fits into a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
