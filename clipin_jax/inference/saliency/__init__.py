"""Maps over patches by Grad-CAM and attention, as pure functions. The caller jits them.

The towers and objectives of a model decide which methods it supports, see `METHODS`.
Only the layers that a method uses compute differently from evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.inference.saliency.gradcam import (
    METHODS,
    PREDICTED,
    Maps,
    Method,
    Request,
)
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
    """Returns `(variables, target_variables, image, text) -> Maps` of a learner.

    Args:
      learner: the model.
      image: [1, H, W, C] uint8; only the shape is used.
      text: [1, L] int32; only the shape is used.
      method: a key of `METHODS`.
      layer: index among the layers that the method can use, negative ones from the end;
        None for its default.
      words: whether to add a map for each id of the text.

    Raises:
      ClipinError: no such method or layer, or a model without the parts for it.
    """
    kind = _supported_method(learner, method)

    def maps(variables: Any, target_variables: Any, image: Array, text: Array) -> Maps:
        return kind.maps(
            Request(
                learner=learner,
                layer=layer,
                words=words,
                variables=variables,
                target_variables=target_variables,
                image=image,
                text=text,
            )
        )

    def run_passes(m: Any, image: Array, text: Array) -> None:
        for forward in kind.passes:
            forward(m, image, text)

    def example() -> Maps:
        variables = learner.init(jax.random.key(0), image, text, method=run_passes)
        return maps(variables, variables, image, text)

    jax.eval_shape(example)  # raises the error of a wrong layer now
    return maps


def _supported_method(learner: Any, method: str) -> Method:
    if method not in METHODS:
        raise ClipinError(f"method is {method!r}: {did_you_mean(method, METHODS)}")
    kind, tower = METHODS[method], type(learner.towers.image)
    if not hasattr(tower, "patch_layers"):
        raise ClipinError(
            f"image tower {tower.__name__} has no attention over patches: maps need a "
            "vision transformer"
        )
    if not kind.is_supported(learner):
        raise ClipinError(f"method {method!r} needs {kind.needs}: this model has none")
    return kind


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarges maps over patches to maps over pixels by cubic splines, cut off at 0.

    Maps are 0 outside of the image, so that a patch at the edge peaks in its middle,
    not at the edge.

    maps: [..., rows, columns]; size: (height, width).
    Returns [..., height, width] float64.
    """
    from scipy import ndimage  # takes longer to import than a model needs to encode

    scale = size[0] / maps.shape[-2], size[1] / maps.shape[-1]
    grids = np.asarray(maps, np.float64).reshape(-1, *maps.shape[-2:])
    large = [
        ndimage.zoom(grid, scale, order=3, mode="grid-constant", grid_mode=True)
        for grid in grids
    ]
    return np.maximum(np.reshape(large, (*maps.shape[:-2], *size)), 0)
