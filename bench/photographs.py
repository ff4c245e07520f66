"""A source of generated photographs of realistic size."""

import io

import cv2
import numpy as np
from PIL import Image

from clipin_jax.data.source import Annotations, Record

WORDS = "a man woman dog cat train on in of the red old street table two with".split()


class Photographs:
    """Generated JPEGs in memory, each with a caption of ten words."""

    classes, fingerprint = (), ""

    def __init__(self, count: int, height: int, width: int, noise: float):
        rng = np.random.default_rng(0)
        # Every fourth one is in portrait format.
        sizes = [(height, width) if n % 4 else (width, height) for n in range(count)]
        self.files = [_jpeg(photograph(rng, *size, noise)) for size in sizes]
        self._captions = [" ".join(rng.choice(WORDS, 10)) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        return {**self.annotations(index), "image": self.files[index]}

    def annotations(self, index: int) -> Annotations:
        return {"captions": (self._captions[index],)}

    def describe(self, index: int) -> str:
        return f"photograph {index}"


def photograph(
    rng: np.random.Generator, height: int, width: int, noise: float
) -> np.ndarray:
    """Returns an image, [height, width, 3] uint8; finer details have less contrast."""
    image = np.full((height, width, 3), 120.0)
    for cells in (2, 4, 8, 16, 32, 64, 256):
        coarse = rng.normal(size=(cells, cells, 3))
        coarse = coarse.mean(axis=2, keepdims=True) + 0.3 * coarse  # mostly grey
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image += 90 / cells**0.5 * fine
    for _ in range(12):
        middle, mask = rng.integers(0, (width, height)), np.zeros((height, width))
        corners = middle + rng.integers(-99, 99, (5, 2))
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        image += mask[..., None] * rng.normal(0, 40, 3)
    image += rng.normal(0, noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
