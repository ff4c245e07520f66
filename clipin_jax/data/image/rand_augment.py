"""RandAugment without colour operations, since captions may name colours.

Cubuk et al. 2020, "RandAugment", arXiv 1909.13719; the choice of operations and their
strengths as in ALBEF (Li et al. 2021, arXiv 2107.07651, section 3.4; reference:
`dataset/randaugment.py`), which gives each drawn operation one chance in two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from clipin_jax.errors import ClipinError

GREATEST = 10  # the largest magnitude
_PROBABILITY = 0.5
_FILL = (128, 128, 128)  # colour of pixels from outside of the image
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

Operations = tuple[tuple[str, float], ...]
"""Names of operations with the amount of each, in the order of their application."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Draws operations for a view and applies them.

    Attributes:
      operations: how many are drawn; each is applied with probability 0.5.
      magnitude: their strength, from 0 to 10.

    Raises:
      ClipinError: a value outside of its range.
    """

    operations: int = 2
    magnitude: float = 7.0

    def __post_init__(self) -> None:
        limits = dict(operations=float("inf"), magnitude=GREATEST)
        for key, greatest in limits.items():
            value = getattr(self, key)
            if not 0 <= value <= greatest:
                raise ClipinError(f"{key} is {value}; it must be 0 to {greatest}")

    def __call__(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the changed view, see `Transform`."""
        return apply(view, sample(rng, self.operations, self.magnitude))


def sample(rng: np.random.Generator, count: int, magnitude: float) -> Operations:
    """Draws up to `count` operations for one view, with replacement."""
    names = tuple(_OPERATIONS)
    which = rng.integers(len(names), size=count)
    chance, sign = rng.random((2, count))
    drawn = []
    for name, below in zip([names[n] for n in which], sign < 0.5, strict=True):
        _, least, slope, signed = _OPERATIONS[name]
        amount = least + slope * magnitude / GREATEST
        drawn.append((name, -amount if signed and below else amount))
    return tuple(x for x, c in zip(drawn, chance, strict=True) if c < _PROBABILITY)


def apply(view: np.ndarray, operations: Operations) -> np.ndarray:
    """Applies operations. view: [H, W, 3] uint8 -> the same."""
    for name, amount in operations:
        view = _OPERATIONS[name].apply(view, amount)
    return view


def _identity(view: np.ndarray, _: float) -> np.ndarray:
    return view


def _autocontrast(view: np.ndarray, _: float) -> np.ndarray:
    """Stretches each channel to the range from 0 to 255."""
    levels = np.arange(256)
    tables = []
    for channel in cv2.split(view):
        low, high = int(channel.min()), int(channel.max())
        scale = 255 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        tables.append((levels * scale + offset).astype(int).clip(0, 255))
    return _look_up(view, tables)


def _equalize(view: np.ndarray, _: float) -> np.ndarray:
    """Gives each level of a channel about as many pixels as any other."""
    tables = []
    for channel in cv2.split(view):
        counts = np.bincount(channel.ravel(), minlength=256)
        last = counts[counts > 0][-1]
        step = int(channel.size - last) // 255
        below = np.cumsum(counts) - counts
        table = (below + step // 2) // step if step else np.arange(256)
        tables.append(table.clip(0, 255))
    return _look_up(view, tables)


def _look_up(view: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    return cv2.LUT(view, np.stack(tables, axis=-1)[:, None].astype(np.uint8))


def _brightness(view: np.ndarray, factor: float) -> np.ndarray:
    levels = np.arange(256, dtype=np.float32) * np.float32(factor)
    return cv2.LUT(view, levels.clip(0, 255).astype(np.uint8))


def _sharpness(view: np.ndarray, factor: float) -> np.ndarray:
    """Moves away from the smoothed image above 1, towards it below; borders stay."""
    smooth = cv2.filter2D(view, -1, _SMOOTH)
    sharp = cv2.addWeighted(view, factor, smooth, 1 - factor, 0)
    done = view.copy()
    done[1:-1, 1:-1] = sharp[1:-1, 1:-1]
    return done


def _shear_x(view: np.ndarray, amount: float) -> np.ndarray:
    return _move(view, [[1, amount, 0], [0, 1, 0]])


def _shear_y(view: np.ndarray, amount: float) -> np.ndarray:
    return _move(view, [[1, 0, 0], [amount, 1, 0]])


def _translate_x(view: np.ndarray, pixels: float) -> np.ndarray:
    return _move(view, [[1, 0, pixels], [0, 1, 0]])


def _translate_y(view: np.ndarray, pixels: float) -> np.ndarray:
    return _move(view, [[1, 0, 0], [0, 1, pixels]])


def _rotate(view: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates about the centre, counterclockwise."""
    height, width = view.shape[:2]
    return _move(view, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1))


def _move(view: np.ndarray, matrix: Any) -> np.ndarray:
    """Applies an affine map of (x, y), counted from the corner of the image."""
    matrix = np.array(matrix, np.float64)
    # OpenCV counts from the centre of the first pixel.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    height, width = view.shape[:2]
    return cv2.warpAffine(view, matrix, (width, height), borderValue=_FILL)


class _Operation(NamedTuple):
    """The amount is `least + slope * magnitude / 10`, of either sign if `signed`."""

    apply: Callable[[np.ndarray, float], np.ndarray]
    least: float = 0.0
    slope: float = 0.0
    signed: bool = False


_OPERATIONS = {
    "identity": _Operation(_identity),
    "autocontrast": _Operation(_autocontrast),
    "equalize": _Operation(_equalize),
    "brightness": _Operation(_brightness, 0.1, 1.8),
    "sharpness": _Operation(_sharpness, 0.1, 1.8),
    "shear_x": _Operation(_shear_x, 0.0, 0.3, True),
    "shear_y": _Operation(_shear_y, 0.0, 0.3, True),
    "translate_x": _Operation(_translate_x, 0.0, 10.0, True),  # pixels of the view
    "translate_y": _Operation(_translate_y, 0.0, 10.0, True),
    "rotate": _Operation(_rotate, 0.0, 30.0, True),  # degrees
}
