"""Folders of transformers' `BlipForImageTextRetrieval`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.files import (
    CONFIG,
    WEIGHTS,
    image_sizes,
    tokenizer_file,
    tower_settings,
    word_pieces,
)
from clipin_jax.interop.descriptions.huggingface.images import SQUASH, preparation
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.bert import blip_retrieval_table

_CLASS = "BlipForImageTextRetrieval"
_TOWER = dict(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, hidden_act="gelu"
)
_VISION = _TOWER | dict(
    num_attention_heads=12, layer_norm_eps=1e-5, image_size=384, patch_size=16
)
_TEXT = _TOWER | dict(
    num_attention_heads=8,
    layer_norm_eps=1e-12,
    max_position_embeddings=512,
    vocab_size=30524,
)


def open_blip_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `BlipForImageTextRetrieval`.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: another class of BLIP; files are missing or damaged, or state what
        our models do not have.
    """
    kinds = content.get("architectures") or []
    if _CLASS not in kinds:
        raise ClipinError(
            f"{folder / CONFIG} is of {', '.join(kinds) or 'no class'}: we read "
            f"{_CLASS} alone, which has both towers, their joint space and the "
            "matching head"
        )
    return ForeignModel(
        label=f"the {_CLASS} in {folder}",
        weights=open_folder(folder, WEIGHTS),
        table=blip_retrieval_table(),
        config="blip",
        settings=_settings(content, folder) | preparation(folder, plain_size=SQUASH),
        tokenizer=tokenizer_file(folder),
    )


def _settings(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    vision = _VISION | content.get("vision_config", {})
    text = _TEXT | content.get("text_config", {})
    return {
        "model.embed_dim": content.get("image_text_hidden_size", 256),
        "model.image.name": "vit",
        **tower_settings("model.image", vision, path),
        **image_sizes(vision["image_size"], vision["patch_size"]),
        "model.image.patch_bias": True,
        "model.image.pool": "cls",
        "model.image.pre_norm": False,
        "model.text.name": "mixture_bert",
        **tower_settings("model.text", text, path),
        "model.text.context_length": text["max_position_embeddings"],
        "model.text.vocab_size": text["vocab_size"],
        "model.text.token_types": 0,
        "model.text.pad_id": 0,
        **word_pieces(folder),
    }
