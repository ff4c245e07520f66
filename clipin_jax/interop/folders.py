"""Finds the file of weights in a model's folder."""

from pathlib import Path

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import Weights, open_weights

# The first one counts: formats that cannot hold code come first.
NAMES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)


def open_folder(folder: Path) -> Weights:
    """Opens the weights of a folder; reads their table of contents alone.

    Raises:
      ClipinError: there are none, or they are damaged.
    """
    for name in NAMES:
        if (folder / name).is_file():
            return open_weights(folder / name)
    raise ClipinError(f"{folder} has no weights: none of {', '.join(NAMES)}")
