"""Maps laid over pictures, and many of them as one sheet.

A map is scaled to [0, 1], enlarged by cubic splines, blurred with a deviation of 0.02
of the longer side, and scaled again; it colours the picture as strongly as its values
to the power of 0.7 are. Source: salesforce/ALBEF, `visualization.ipynb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from clipin_jax.errors import ClipinError
from clipin_jax.inference.saliency import enlarge

BLUR, POWER = 0.02, 0.7
CELL, GAP, LINE = 224, 10, 20  # pixels of a sheet: pictures, between them, a label
_INK, _PAPER = (29, 33, 38), (255, 255, 255)


def heatmap(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map over patches, ready to be shown.

    small: [rows, columns]; size: height and width. Returns [height, width] from 0 to 1;
    all 0 for a map that says nothing, being everywhere the same.
    """
    large = enlarge(_scaled(np.asarray(small, np.float64)), size)
    return _scaled(ndimage.gaussian_filter(large, BLUR * max(size)))


def _scaled(x: np.ndarray) -> np.ndarray:
    spread = np.ptp(x)
    # What is constant but for rounding is constant.
    if not np.isfinite(spread) or spread <= 1e-12 * np.abs(x).max():
        return np.zeros_like(x)
    return (x - x.min()) / spread


def colours(values: np.ndarray) -> np.ndarray:
    """Blue over green and yellow to red: [...] from 0 to 1 to [..., 3], the same."""
    peaks = np.array([3.0, 2.0, 1.0])  # of red, green and blue, in quarters
    return np.clip(1.5 - np.abs(4 * values[..., None] - peaks), 0, 1)


def overlay(image: np.ndarray, small: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] uint8 with a map [rows, columns] over it, the same shape."""
    values = heatmap(small, image.shape[:2])
    share = values[..., None] ** POWER
    mixed = (1 - share) * (image / 255) + share * colours(values)
    return np.round(255 * mixed).astype(np.uint8)


def sheet(rows: Sequence[Sequence[tuple[str, np.ndarray]]], titles: Sequence[str]):
    """Rows of labelled pictures as one: [H, W, 3] uint8.

    rows: of each row the (label, [h, w, 3] uint8) from left to right; rows may be of
    different lengths. titles: what stands above each row.
    """
    font = ImageFont.load_default(13)
    high = [_height(row) for row in rows]
    width = max(len(row) for row in rows) * (CELL + GAP) + GAP
    wanted = max((int(font.getlength(title)) for title in titles), default=0)
    width = max(width, min(wanted, 1200) + 2 * GAP)
    height = sum(h + 2 * LINE + GAP for h in high) + GAP
    page = Image.new("RGB", (width, height), _PAPER)
    draw, top = ImageDraw.Draw(page), GAP
    for row, title, tall in zip(rows, titles, high, strict=True):
        draw.text((GAP, top), _fit(title, font, width - 2 * GAP), _INK, font)
        for number, (label, image) in enumerate(row):
            left = GAP + number * (CELL + GAP)
            draw.text((left, top + LINE), _fit(label, font, CELL), _INK, font)
            page.paste(_cell(image), (left, top + 2 * LINE))
        top += tall + 2 * LINE + GAP
    return np.asarray(page)


def write_picture(image: np.ndarray, path: str | Path) -> None:
    """Writes a PNG file; ClipinError if that cannot be."""
    try:
        Image.fromarray(image).save(path, format="PNG", optimize=True)
    except OSError as error:
        raise ClipinError(f"cannot write {path}: {error.strerror or error}") from error


def magnified(image: np.ndarray) -> np.ndarray:
    """A picture at the size at which a sheet shows it, so that maps are smooth there.

    image: [H, W, 3] uint8. Returns the same with a longer side of `CELL`.
    """
    return np.asarray(_cell(image))


def _cell(image: np.ndarray) -> Image.Image:
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def _height(row: Sequence[tuple[str, np.ndarray]]) -> int:
    return max(_cell(image).size[1] for _, image in row)


def _fit(text: str, font, width: int) -> str:
    """As much of a text as there is room for."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
