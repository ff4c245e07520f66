"""Sources in memory, and encoders of functions that are as simple as a test needs."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from clipin_jax.core import sharding
from clipin_jax.inference.encoder import Encoder

STATE = SimpleNamespace(variables=(), target_variables=())
WIDTH = 12


class Images(list):
    """Records as a source."""

    fingerprint = "images"

    def __init__(self, records, classes=()):
        super().__init__(records)
        self.classes = tuple(classes)

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return f"image {index}"


def gray_images(captions, size=8) -> Images:
    """Images whose gray is their number, each with its captions."""
    return Images(
        {"image": np.full((size, size, 3), number, np.uint8), "captions": tuple(texts)}
        for number, texts in enumerate(captions)
    )


def last_number(texts) -> np.ndarray:
    """A tokenizer for which a text is the number at its end, or 0."""
    words = [text.split()[-1] for text in texts]
    return np.asarray([[int(w) if w.isdigit() else 0] for w in words], np.int32)


def encoder_of(
    *,
    devices: int | None = None,
    image_size: tuple[int, int] = (8, 8),
    tokenizer: Any = last_number,
    augment: Any = None,
    cache: Any = None,
    **functions: Any,
) -> Encoder:
    """An encoder of some functions, on the first devices or on all."""
    return Encoder(
        SimpleNamespace(**functions),  # pyright: ignore[reportArgumentType]
        mesh=sharding.make_mesh(data=-1, fsdp=1, devices=jax.devices()[:devices]),
        tokenizer=tokenizer,
        image_size=image_size,
        interpolation="bicubic",
        augment=augment,
        cache=cache,
    )


def cluster_points(samples: int, classes: int, width: int = WIDTH, seed: int = 0):
    """Features around a center for each class: [samples, width], and [samples] int."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    return centers[labels] + rng.normal(size=(samples, width)), labels


class Clusters(Images):
    """Images of 2 x 2 pixels that are features of `cluster_points`."""

    def __init__(self, samples, classes, seed=0, many=False, names=(), labels=None):
        features, drawn = cluster_points(samples, classes, seed=seed)
        pixels = np.clip(features * 20 + 128, 0, 255).astype(np.uint8)
        labels = drawn if labels is None else labels
        super().__init__(
            (
                {
                    "image": p.reshape(2, 2, 3),
                    "captions": ("",),
                    "label": [int(k), int(k) // 2] if many else int(k),
                }
                for p, k in zip(pixels, labels, strict=True)
            ),
            names or (f"class {k}" for k in range(classes)),
        )


def pixel_features(variables, image):
    """Pixels as features."""
    # A constant feature must not become a division by zero.
    pooled = image.reshape(len(image), -1).astype("float32").at[:, 0].set(7.0)
    return {"pooled": pooled, "embedding": pooled}


def pixel_encoder(devices=None, augment=None, image=pixel_features) -> Encoder:
    """An encoder of `Clusters`."""
    return encoder_of(
        devices=devices,
        image_size=(2, 2),
        tokenizer=lambda texts: np.zeros((len(texts), 1), np.int32),
        augment=augment,
        image=image,
        text=image,
    )
