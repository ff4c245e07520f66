"""The views of torchvision, written with Pillow and numpy."""

import io
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

SIDE = 224
BICUBIC = Image.Resampling.BICUBIC
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)[:, None, None]
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)[:, None, None]


class ReleasedViews:
    """Two views of the released CLIPin: resize, crop, flip, brightness, normalize.

    Each view starts from the decoded image, as in its loader (reference: `data.py`,
    `CocoCaptions`).
    """

    def __init__(self, files: Sequence[bytes], seed: int = 0):
        self._files, self._random = files, random.Random(seed)

    def __call__(self, number: int) -> list[np.ndarray]:
        image = decode(self._files[number])
        return [self._view(image) for _ in range(2)]

    def _view(self, image: Image.Image) -> np.ndarray:
        image = image.resize(shortest_side(image.size), BICUBIC)
        box = draw_box(self._random, image.size, (0.8, 1.0), (1.0, 1.0))
        flip = self._random.random() < 0.5
        brightness = self._random.uniform(0.9, 1.1)
        return normalized(make_view(image, box, flip, brightness))


class OpenClipView:
    """The single view of open_clip: crop and normalize."""

    def __init__(self, files: Sequence[bytes], seed: int = 0):
        self._files, self._random = files, random.Random(seed)

    def __call__(self, number: int) -> np.ndarray:
        image = decode(self._files[number])
        box = draw_box(self._random, image.size, (0.9, 1.0), (3 / 4, 4 / 3))
        return normalized(image.crop(box).resize((SIDE, SIDE), BICUBIC))


def released_view(file: bytes, drawn: Any) -> np.ndarray:
    """Returns the released view with these parameters, [224, 224, 3] uint8."""
    squashed = decode(file).resize((SIDE, SIDE), BICUBIC)
    box = (
        drawn.left,
        drawn.top,
        drawn.left + drawn.width,
        drawn.top + drawn.height,
    )
    return np.asarray(make_view(squashed, box, drawn.flip, drawn.brightness))


def shortest_side(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of an image scaled to a shortest side of 224 pixels."""
    least = min(size)
    return SIDE * size[0] // least, SIDE * size[1] // least


def decode(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def make_view(
    image: Image.Image,
    box: tuple[int, int, int, int],
    flip: bool,
    brightness: float,
) -> Image.Image:
    view = image.crop(box).resize((SIDE, SIDE), BICUBIC)
    if flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(view).enhance(brightness)


def normalized(view: Image.Image) -> np.ndarray:
    """Returns normalized pixels, [3, H, W] float32."""
    x = np.asarray(view).transpose(2, 0, 1).astype(np.float32, order="C")
    x /= 255
    x -= MEAN
    x /= STD
    return x


def draw_box(
    rng: random.Random,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Returns a box of random area and shape: left, top, right, bottom."""
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
