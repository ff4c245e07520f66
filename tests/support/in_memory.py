"""Sources in memory, and encoders that call simple functions instead of a model."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from clipin_jax.core import sharding
from clipin_jax.inference.encoder import Encoder

STATE = SimpleNamespace(variables=(), target_variables=())
WIDTH = 12


class Images(list):
    """A source of records in memory."""

    fingerprint = "images"

    def __init__(self, records, classes=()):
        super().__init__(records)
        self.classes = tuple(classes)

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return f"image {index}"


def gray_images(captions, size=8) -> Images:
    """Returns a source whose image n has gray level n and the n-th captions."""
    return Images(
        {"image": np.full((size, size, 3), number, np.uint8), "captions": tuple(texts)}
        for number, texts in enumerate(captions)
    )


def last_number(texts) -> np.ndarray:
    """Tokenizes a text as the number at its end, or as 0: [N, 1]."""
    last = [text.split()[-1] for text in texts]
    return np.asarray([[int(x) if x.isdigit() else 0] for x in last], np.int32)


def function_encoder(
    *,
    devices: int | None = None,
    image_size: tuple[int, int] = (8, 8),
    tokenizer: Any = last_number,
    augment: Any = None,
    cache: Any = None,
    **functions: Any,
) -> Encoder:
    """Returns an encoder that calls these functions, on the first or all devices."""
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
    """Draws features around a center for each class: [samples, width], [samples]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    return centers[labels] + rng.normal(size=(samples, width)), labels


class Clusters(Images):
    """Images of 2 x 2 pixels, which are features drawn by `cluster_points`."""

    def __init__(
        self, samples, classes, seed=0, multi_label=False, names=(), labels=None
    ):
        features, drawn = cluster_points(samples, classes, seed=seed)
        pixels = np.clip(features * 20 + 128, 0, 255).astype(np.uint8)
        labels = drawn if labels is None else labels
        super().__init__(
            (
                {
                    "image": p.reshape(2, 2, 3),
                    "captions": ("",),
                    "label": [int(k), int(k) // 2] if multi_label else int(k),
                }
                for p, k in zip(pixels, labels, strict=True)
            ),
            names or (f"class {k}" for k in range(classes)),
        )


def pixel_features(variables, image):
    """Returns the pixels as features."""
    # A constant feature must not become a division by zero.
    pooled = image.reshape(len(image), -1).astype("float32").at[:, 0].set(7.0)
    return {"pooled": pooled, "embedding": pooled}


def pixel_encoder(devices=None, augment=None, image=pixel_features) -> Encoder:
    """Returns an encoder for `Clusters`, by default of their pixels."""
    return function_encoder(
        devices=devices,
        image_size=(2, 2),
        tokenizer=lambda texts: np.zeros((len(texts), 1), np.int32),
        augment=augment,
        image=image,
        text=image,
    )
