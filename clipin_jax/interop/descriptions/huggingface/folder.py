"""Folders of Hugging Face's transformers, by the type that their config.json names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.blip import open_blip_model
from clipin_jax.interop.descriptions.huggingface.clip import open_clip_model
from clipin_jax.interop.descriptions.huggingface.files import CONFIG
from clipin_jax.interop.descriptions.huggingface.siglip import (
    open_siglip2_model,
    open_siglip_model,
)
from clipin_jax.interop.descriptions.huggingface.towers import (
    open_bert_model,
    open_vit_model,
)
from clipin_jax.interop.descriptions.json_files import read_json
from clipin_jax.interop.foreign_model import ForeignModel

# Value of `model_type` -> what opens the folder.
MODELS: dict[str, Callable[[Path, Mapping[str, Any]], ForeignModel]] = {
    "clip": open_clip_model,
    "siglip": open_siglip_model,
    "siglip2": open_siglip2_model,
    "blip": open_blip_model,
    "vit": open_vit_model,
    "bert": open_bert_model,
}


def open_huggingface(folder: Path) -> ForeignModel | None:
    """Opens a folder that `save_pretrained` wrote; None if there is no config.json.

    Raises:
      ClipinError: a model that we cannot read, or damaged files.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    content = read_json(path)
    kind = content.get("model_type")
    if kind is None:
        return None
    if kind not in MODELS:
        raise ClipinError(
            f"{path} has model_type {kind!r}: we read only {', '.join(MODELS)}"
        )
    return MODELS[kind](folder, content)
