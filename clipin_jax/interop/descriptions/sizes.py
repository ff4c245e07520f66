"""Sizes of towers, from the shapes of their arrays."""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import Weights

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)
HEAD_WIDTH = 64  # of most published transformers


def count_layers(weights: Weights, template: str) -> int:
    """Returns how many numbers `{n}` has in the beginnings of names.

    Args:
      weights: of any library.
      template: such as `blocks.{n}.`.
    """
    pattern = re.compile(re.escape(template).replace(r"\{n\}", r"(\d+)"))
    matches = map(pattern.match, weights.names())
    return len({match[1] for match in matches if match})


def perceptron_sizes(weights: Weights, key: str, name: str) -> dict[str, Any]:
    """Returns the width and `mlp_ratio` of a tower.

    Args:
      weights: of a library with PyTorch's layout.
      key: of the tower in our configs.
      name: of the first kernel of a perceptron, [hidden, width].
    """
    hidden, width = weights.shape(name)
    return {f"{key}.width": width, f"{key}.mlp_ratio": hidden / width}


def image_sizes(
    weights: Weights, positions: int, patch: int, extra: int = 1
) -> dict[str, Any]:
    """Returns the sizes of square images and of their patches.

    Args:
      weights: for messages.
      positions: rows of the table.
      patch: side in pixels.
      extra: rows of the table that are no patch.

    Raises:
      ClipinError: the patches are no square.
    """
    side = isqrt(positions - extra)
    if side * side != positions - extra:
        raise ClipinError(
            f"{weights.origin} has {positions} positions of images, {extra} of them no "
            "patch: the others are no square grid, the only one that a file of weights "
            "alone can describe"
        )
    return {
        "model.image.image_size": (side * patch, side * patch),
        "model.image.patch_size": (patch, patch),
    }


def usual_heads(settings: Mapping[str, Any]) -> dict[str, int]:
    """Returns the heads that towers of such widths usually have, 64 wide each.

    Args:
      settings: with the widths; others than multiples of 64 have no usual number.
    """
    widths = {k: w for k, w in settings.items() if re.fullmatch(r".*\.width", k)}
    return {
        key.replace(".width", ".num_heads"): width // HEAD_WIDTH
        for key, width in widths.items()
        if width % HEAD_WIDTH == 0
    }


def preparation(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """Returns the settings of how pixels are prepared."""
    return {"model.image_mean": mean, "model.image_std": std}
