"""The formats by name, and the writing of a model in one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clipin_jax.interop.exports.big_vision import export_big_vision
from clipin_jax.interop.exports.folder import (
    Contents,
    check_target,
    text_file,
    write_folder,
)
from clipin_jax.interop.exports.huggingface import export_huggingface
from clipin_jax.interop.exports.model_card import model_card
from clipin_jax.interop.exports.onnx_programs import export_onnx
from clipin_jax.interop.exports.open_clip import export_open_clip
from clipin_jax.interop.exports.own_format import export_own_format
from clipin_jax.interop.exports.stablehlo import export_stablehlo
from clipin_jax.interop.exports.trained_model import TrainedModel

CARD = "README.md"


# Name -> what returns the contents of a folder, or raises what it cannot hold.
FORMATS: dict[str, Callable[[TrainedModel], Contents]] = {
    "huggingface": export_huggingface,
    "open_clip": export_open_clip,
    "big_vision": export_big_vision,
    "safetensors": export_own_format,
    "stablehlo": export_stablehlo,
    "onnx": export_onnx,
}


def write_export(model: TrainedModel, name: str, target: str | Path) -> Contents:
    """Writes a model to a new folder, with its card.

    Args:
      model: that is exported.
      name: a key of `FORMATS`.
      target: a folder that does not exist or is empty.

    Returns:
      What was written.

    Raises:
      ClipinError: the format cannot hold the model, the folder has files, or it cannot
        be written.
    """
    folder = check_target(target)
    contents = FORMATS[name](model)
    card = text_file(model_card(model, contents, folder.name))
    contents = contents._replace(files={**contents.files, CARD: card})
    write_folder(folder, contents.files)
    return contents
