"""How a folder of transformers prepares images: its preprocessor_config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.json_files import read_json

_FILE, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # numbers of Pillow's
SHORTEST, SQUASH = "shortest", "squash"


def preparation(folder: Path, *, plain_size: str) -> dict[str, Any]:
    """Returns the settings of images.

    Args:
      folder: of the model. Newer ones have the file of images inside that of the
        processor. Without any, nothing is stated.
      plain_size: what a size of one number means for the model: `shortest` or `squash`,
        see `data.image.views.evaluation_view`.

    Raises:
      ClipinError: damaged files, or a preparation that our views do not have.
    """
    path, content = _content(folder)
    if not content:
        return {}
    settings: dict[str, Any] = {}
    for key in ("image_mean", "image_std"):
        if key in content:
            settings[f"model.{key}"] = tuple(map(float, content[key]))
    if content.get("do_normalize") is False:
        settings["model.image_mean"] = (0.0, 0.0, 0.0)
        settings["model.image_std"] = (1.0, 1.0, 1.0)
    _check_scale(content, path)
    if (number := content.get("resample")) is not None:
        if number not in INTERPOLATIONS:
            raise ClipinError(f"{path} has resample {number}, which we do not have")
        settings["data.augment.interpolation"] = INTERPOLATIONS[number]
    if "size" in content and content.get("do_resize", True):
        settings["data.resize"] = _resize(content, path, plain_size)
    return settings


def _content(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """Returns the file, and what it says of images; nothing without a file."""
    if (path := folder / _FILE).is_file():
        return path, read_json(path)
    if (path := folder / _PROCESSOR).is_file():
        return path, read_json(path).get("image_processor", {})
    return path, {}


def _check_scale(content: Mapping[str, Any], path: Path) -> None:
    factor = content.get("rescale_factor", 1 / 255)
    if content.get("do_rescale", True) is False or abs(factor * 255 - 1) > 1e-3:
        raise ClipinError(
            f"{path} does not scale pixels to [0, 1] (do_rescale, rescale_factor), as "
            "our models do"
        )


def _resize(content: Mapping[str, Any], path: Path, plain_size: str) -> str:
    size = content["size"]
    if isinstance(size, int):
        return plain_size
    if not isinstance(size, Mapping) or not {"shortest_edge", "height"} & set(size):
        raise ClipinError(f"{path} has size {size!r}, which our views do not have")
    if "height" in size:
        return SQUASH
    crop = content.get("crop_size", size["shortest_edge"])
    crop = crop.get("height") if isinstance(crop, Mapping) else crop
    if crop != size["shortest_edge"] or content.get("do_center_crop") is False:
        raise ClipinError(
            f"{path} scales the shortest side to {size['shortest_edge']} and crops "
            f"{crop}; our views crop all of the shortest side. To take the weights all "
            "the same, make the two numbers equal in that file"
        )
    return SHORTEST
