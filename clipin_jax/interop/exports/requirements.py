"""What a format can say about a model; all else is an error before anything is written.

The values of a config are compared, key by key, with those that the format knows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError

LINEAR_TOWERS: dict[str, Sequence[Any]] = {
    "model.image.name": ("vit",),
    "model.text.name": ("text_transformer",),
    "model.embedding_from": ("",),
}


def require(
    config: ConfigDict, what: str, allowed: Mapping[str, Sequence[Any]]
) -> None:
    """Checks the values of a config.

    Args:
      config: with defaults.
      what: the format, for the message, such as `CLIPModel`.
      allowed: key -> the values that the format knows.

    Raises:
      ClipinError: other values; the message names all of them, and what there may be.
    """
    wrong = {
        key: f"{key} {value!r} (only {', '.join(map(repr, values))})"
        for key, values in allowed.items()
        if (value := config_value(config, key)) not in values
    }
    # Another tower has other keys.
    names = [line for key, line in wrong.items() if key.endswith(".name")]
    if lines := names or list(wrong.values()):
        raise ClipinError(
            f"{what} cannot hold this model: it has no {'; no '.join(lines)}"
        )


def config_value(config: ConfigDict, key: str) -> Any:
    """Returns the value of a dotted key; None if it is absent."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, ConfigDict) or name not in node:
            return None
        node = node[name]
    return node


def square_sides(config: ConfigDict, what: str) -> tuple[int, int]:
    """Returns the sides of images and of patches; 0 for a tower without patches.

    Raises:
      ClipinError: one is not square, or the run reads images of another size than its
        position table is made for.
    """
    image = config.model.image
    sizes = {"model.image.image_size": tuple(image.image_size)}
    if "patch_size" in image:
        sizes["model.image.patch_size"] = tuple(image.patch_size)
    for key, (height, width) in sizes.items():
        if height != width:
            raise ClipinError(
                f"{what} cannot hold this model: {key} is {height}x{width}, and it "
                "knows squares only"
            )
    if tuple(config.data.image_size) != tuple(image.image_size):
        raise ClipinError(
            f"{what} cannot hold this model: data.image_size is not that of "
            f"model.image.image_size, {tuple(image.image_size)}"
        )
    return image.image_size[0], image.get("patch_size", (0, 0))[0]


def objective_of(config: ConfigDict, what: str, kind: str) -> str:
    """Returns the name of the objective of a type, whose scale logits have.

    Raises:
      ClipinError: there is none.
    """
    for name, spec in config.objectives.items():
        if spec.get("type", name) == kind:
            return name
    raise ClipinError(
        f"{what} cannot hold this model: it has no objective of type {kind!r}, but "
        f"{', '.join(config.objectives)}"
    )
