"""A small config and a random batch of its shapes."""

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.config import load_config


def tiny_config(*overrides: str, clipin: bool = True) -> ConfigDict:
    """Returns `clip:runlocal` with even smaller sizes."""
    small = (
        "batch_size=16",
        "model.text.vocab_size=64",
        "model.text.context_length=12",
        "model.image.width=32",
        "model.text.width=32",
    )
    name = "clip:clipin,runlocal" if clipin else "clip:runlocal"
    return load_config(name, (*small, *overrides))


def tiny_batch(config: ConfigDict, seed: int = 0) -> dict:
    """Returns random pixels, and captions that end with the largest id."""
    rng = np.random.default_rng(seed)
    height, width = config.model.image.image_size
    length, vocabulary = config.data.context_length, config.model.text.vocab_size

    def view() -> dict:
        shape = (config.batch_size, height, width, 3)
        text = rng.integers(1, vocabulary - 1, (config.batch_size, length))
        text[:, -1] = vocabulary - 1
        return {
            "image": rng.integers(0, 256, shape, dtype=np.uint8),
            "text": text.astype(np.int32),
        }

    return {"view1": view(), "view2": view()}
