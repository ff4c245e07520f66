"""Images: decoding of any file to RGB pixels, and random views of them.

Imports `errors`, `registry`, `data.source`, `data.content`, numpy, OpenCV and Pillow;
never jax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clipin_jax import registry
from clipin_jax.data.image.rand_augment import RandAugment
from clipin_jax.data.image.transform import Transform
from clipin_jax.errors import ClipinError

TRANSFORMS: dict[str, Callable[..., Transform]] = {"rand_augment": RandAugment}


def make_transforms(entries: Mapping[str, Mapping[str, Any]]) -> list[Transform]:
    """Builds every entry of `config.data.augment.transforms`, in their order.

    Args:
      entries: name to `type` (without one the name is the type) and arguments.

    Raises:
      ClipinError: a type, an argument or a value that does not exist.
    """
    transforms = []
    for name, entry in entries.items():
        where, arguments = f"data.augment.transforms.{name}", dict(entry)
        kind = registry.find(TRANSFORMS, arguments.pop("type", name), f"{where}.type")
        registry.check_arguments(kind, arguments, where)
        try:
            transforms.append(kind(**arguments))
        except ClipinError as error:
            raise ClipinError(f"{where}: {error}") from error
    return transforms
