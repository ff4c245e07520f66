"""Fits a table of positions to another length or another grid of patches."""

from math import isqrt

import jax.numpy as jnp
import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.models.vit import resize_position_embedding

IMAGE = "towers/image/"


def is_positions(path: str) -> bool:
    """Whether an array of ours is a table of positions."""
    return path.removesuffix("/embedding").endswith("position_embedding")


def fit_positions(
    path: str, table: np.ndarray, length: int, grid: tuple[int, int]
) -> np.ndarray:
    """Returns a table of another length.

    A table of patches is resized: bicubic with anti-aliasing, as the tower itself does
    it for larger images. Of a table of tokens the first positions are kept.

    Args:
      path: ours, of the table.
      table: [old length, D], of a square grid of patches or of a text.
      length: of the result.
      grid: rows and columns of patches of the result.

    Raises:
      ClipinError: the table is too short for the texts, or its grid is not square.
    """
    if not path.startswith(IMAGE):
        if len(table) < length:
            raise ClipinError(
                f"{path} has {len(table)} positions, too few for {length}: set "
                f"model.text.context_length and data.context_length to {len(table)}"
            )
        return table[:length]
    extra = length - grid[0] * grid[1]
    side = isqrt(len(table) - extra)
    if side * side != len(table) - extra:
        raise ClipinError(
            f"{path} has {len(table)} positions, {extra} of them no patch: the others "
            "are no square grid, so that they cannot be resized"
        )
    return np.asarray(resize_position_embedding(jnp.asarray(table), (side, side), grid))
