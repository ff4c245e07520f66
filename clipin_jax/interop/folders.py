"""Finds the file of weights in a model's folder."""

from collections.abc import Sequence
from pathlib import Path

from clipin_jax.interop.weights import Weights, open_weights


def open_folder(folder: Path, names: Sequence[str]) -> Weights:
    """Opens the weights of a folder; reads their table of contents alone.

    Args:
      folder: of a model; it may hold the weights of several libraries.
      names: of files of one library, the first one counts; without any of them, the
        only file of weights.

    Raises:
      ClipinError: there are none, or they are damaged.
    """
    there = (folder / name for name in names if (folder / name).is_file())
    return open_weights(next(there, folder))
