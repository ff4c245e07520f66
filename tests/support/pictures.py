"""Labelled sources in memory whose pixels are their features, and what encodes them."""

from types import SimpleNamespace

import jax
import numpy as np

from clipin_jax.core import sharding
from clipin_jax.inference.encoder import Encoder

STATE = SimpleNamespace(variables=())
WIDTH = 12


def problem(samples: int, classes: int, width: int = WIDTH, seed: int = 0):
    """Features around a centre for each class: [samples, width], and [samples] int."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return centres[labels] + rng.normal(size=(samples, width)), labels


class Pictures(list):
    fingerprint = "pictures"

    def __init__(self, samples, classes, seed=0, many=False, names=(), labels=None):
        features, drawn = problem(samples, classes, seed=seed)
        pixels = np.clip(features * 20 + 128, 0, 255).astype(np.uint8)
        self.classes = tuple(names) or tuple(f"class {k}" for k in range(classes))
        labels = drawn if labels is None else labels
        super().__init__(
            {
                "image": p.reshape(2, 2, 3),
                "captions": ("",),
                "label": [int(k), int(k) // 2] if many else int(k),
            }
            for p, k in zip(pixels, labels, strict=True)
        )

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return f"picture {index}"


def encode_image(variables, image):
    # A constant feature must not become a division by zero.
    pooled = image.reshape(len(image), -1).astype("float32").at[:, 0].set(7.0)
    return {"pooled": pooled, "embedding": pooled}


def pixel_encoder(devices: int | None = None, augment=None, image=encode_image):
    return Encoder(
        SimpleNamespace(image=image, text=image),
        mesh=sharding.make_mesh(data=-1, fsdp=1, devices=jax.devices()[:devices]),
        tokenizer=lambda texts: np.zeros((len(texts), 1), np.int32),
        image_size=(2, 2),
        interpolation="bicubic",
        augment=augment,
    )
