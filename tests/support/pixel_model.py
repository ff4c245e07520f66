"""A model in memory whose embeddings are the pixels of images of 2 x 2."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from clipin_jax.inference.model import Model
from clipin_jax.inference.open_model import OpenedModel
from tests.support.in_memory import function_encoder

WIDTH = 12
CONFIG = {
    "model": {"embed_dim": WIDTH, "image": {"name": "pixels"}, "text": {"name": "ids"}},
    "data": {"context_length": 1, "augment": {"interpolation": "bicubic"}},
    "objectives": {"contrastive": {}},
    "evals": {},
}


def unit_rows(x: Any) -> dict[str, Any]:
    """Returns rows of floats as features of unit norm."""
    x = x.astype(jnp.float32) + 1e-3  # a black image has a direction, too
    embedding = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    return {"pooled": x, "embedding": embedding}


def encode_pixels(variables: Any, image: Any) -> dict[str, Any]:
    """Returns the pixels of images as features."""
    return unit_rows(image.reshape(len(image), WIDTH))


def encode_ids(variables: Any, ids: Any) -> dict[str, Any]:
    """Returns a feature of each text by its last number."""
    return unit_rows((ids[:, :1] + jnp.arange(WIDTH)) % 7)


def pixel_model(
    batch_size: int = 4, devices: int = 1, image: Any = encode_pixels, **functions: Any
) -> Model:
    """Returns the model; other functions as in `function_encoder`."""
    encoder = function_encoder(
        devices=devices, image_size=(2, 2), image=image, text=encode_ids, **functions
    )
    state: Any = SimpleNamespace(variables={"params": {}}, target_variables={})
    opened = OpenedModel("pixels@1", ConfigDict(CONFIG), encoder, state)
    return Model(opened, batch_size)
