"""The formats by name, and the writing of a model in one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from clipin_jax.interop.exports.folder import (
    Contents,
    check_target,
    text_file,
    write_folder,
)
from clipin_jax.interop.exports.huggingface import export_huggingface
from clipin_jax.interop.exports.model_card import model_card
from clipin_jax.interop.exports.trained_model import TrainedModel

CARD = "README.md"


class Format(NamedTuple):
    """A format.

    Attributes:
      purpose: one line, for `--help`.
      export: a model -> what its folder has; raises what it cannot hold.
    """

    purpose: str
    export: Callable[[TrainedModel], Contents]


FORMATS = {
    "huggingface": Format("transformers: CLIPModel, SiglipModel", export_huggingface),
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
    contents = FORMATS[name].export(model)
    card = text_file(model_card(model, contents, folder.name))
    contents = contents._replace(files={**contents.files, CARD: card})
    write_folder(folder, contents.files)
    return contents
