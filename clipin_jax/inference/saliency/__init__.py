"""Where a model looks: Grad-CAM and attention as maps over patches, pure and jit-free.

What a tower and an objective have decides which maps there are, see `methods.METHODS`.
All layers but those that are looked at compute as always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import ndimage

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.inference.saliency.methods import METHODS, PREDICTED, Maps, Request
from clipin_jax.types import Array

__all__ = ["METHODS", "PREDICTED", "MapFn", "Maps", "enlarge", "make_map_fn"]

# (variables, target_variables, image [B, H, W, C] uint8, text [B, L] int32) -> Maps
MapFn = Callable[[Any, Any, Array, Array], Maps]


def make_map_fn(
    learner: Any,
    image: Array,
    text: Array,
    method: str = "contrastive",
    layer: int | None = None,
    words: bool = False,
) -> MapFn:
    """What makes maps of pairs, `(variables, target_variables, image, text) -> Maps`.

    Args:
      image: [1, H, W, C] uint8 and
      text: [1, L] int32, any; only their shapes are looked at.
      method: a key of `METHODS`.
      layer: which of the layers that the method can look at, negative ones from the
        end; the method's own choice if None.
      words: whether the ids of the text are explained too.

    Raises:
      ClipinError: no such method or layer, or a model that lacks the parts.
    """
    if method not in METHODS:
        raise ClipinError(f"method is {method!r}: {did_you_mean(method, METHODS)}")
    way, tower = METHODS[method], type(learner.towers.image)
    if not hasattr(tower, "patch_layers"):
        raise ClipinError(
            f"image tower {tower.__name__} has no patches that attention looks at: "
            "maps need a vision transformer"
        )
    if not way.able(learner):
        raise ClipinError(f"method {method!r} needs {way.needs}: this model has none")

    def maps(variables: Any, target_variables: Any, image: Array, text: Array) -> Maps:
        return way.maps(
            Request(learner, layer, words, variables, target_variables, image, text)
        )

    def touch(m: Any, image: Array, text: Array) -> None:
        for forward in way.touches:
            forward(m, image, text)

    def example() -> Maps:
        variables = learner.init(jax.random.key(0), image, text, method=touch)
        return maps(variables, variables, image, text)

    jax.eval_shape(example)  # fails here, not in the midst of a run
    return maps


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps over patches as maps over pixels: cubic splines, nothing below 0.

    Outside of the picture a map is 0, so that patches at the edge peak in their middle
    too, not where the picture ends.

    maps: [..., rows, columns]; size: height and width. Returns [..., height, width].
    """
    scale = size[0] / maps.shape[-2], size[1] / maps.shape[-1]
    grids = np.asarray(maps, np.float64).reshape(-1, *maps.shape[-2:])
    large = [
        ndimage.zoom(grid, scale, order=3, mode="grid-constant", grid_mode=True)
        for grid in grids
    ]
    return np.maximum(np.reshape(large, (*maps.shape[:-2], *size)), 0)
