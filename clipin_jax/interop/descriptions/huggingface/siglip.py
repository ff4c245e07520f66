"""Folders of transformers' `SiglipModel` and `Siglip2Model`.

SigLIP 2 of a fixed resolution is published as a `SiglipModel`. `Siglip2Model` is the
one of any resolution (NaFlex): it is read at the square grid of its table of positions.
"""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.files import (
    CONFIG,
    WEIGHTS,
    image_sizes,
    require,
    sentence_pieces,
    tokenizer_file,
    tower_settings,
)
from clipin_jax.interop.descriptions.huggingface.images import SQUASH, preparation
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.huggingface_siglip import siglip2_table, siglip_table

_TOWER = dict(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-6,
)
_VISION = _TOWER | dict(image_size=224, patch_size=16, num_patches=256)
_TEXT = _TOWER | dict(max_position_embeddings=64, vocab_size=32_000)


def open_siglip_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `SiglipModel`.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: files are missing or damaged, or state what our models do not have.
    """
    vision = _VISION | content.get("vision_config", {})
    sizes = image_sizes(vision["image_size"], vision["patch_size"])
    return ForeignModel(
        label=f"the SiglipModel in {folder}",
        weights=open_folder(folder, WEIGHTS),
        table=siglip_table(),
        config="siglip",
        settings=sizes
        | _settings(content, folder)
        | preparation(folder, plain_size=SQUASH),
        tokenizer=tokenizer_file(folder),
    )


def open_siglip2_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `Siglip2Model`, for square images.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: as `open_siglip_model`, or a table of positions without square grid.
    """
    vision = _VISION | content.get("vision_config", {})
    side = isqrt(vision["num_patches"])
    if side * side != vision["num_patches"]:
        raise ClipinError(
            f"{folder / CONFIG} has num_patches {vision['num_patches']}, which is no "
            "square grid: our image towers have images of one size"
        )
    sizes = image_sizes(side * vision["patch_size"], vision["patch_size"])
    return ForeignModel(
        label=f"the Siglip2Model in {folder}",
        weights=open_folder(folder, WEIGHTS),
        table=siglip2_table(),
        config="siglip",
        settings=sizes
        | _settings(content, folder)
        | preparation(folder, plain_size=SQUASH)
        | {"data.resize": SQUASH},
        tokenizer=tokenizer_file(folder),
    )


def _settings(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    vision = _VISION | content.get("vision_config", {})
    text = _TEXT | content.get("text_config", {})
    require(vision, path, vision_use_head=True)
    return {
        "model.embed_dim": text.get("projection_size", text["hidden_size"]),
        "model.image.name": "vit",
        **tower_settings("model.image", vision, path),
        "model.image.patch_bias": True,
        "model.image.pool": "map",
        "model.image.pre_norm": False,
        "model.text.name": "text_transformer",
        **tower_settings("model.text", text, path),
        "model.text.context_length": text["max_position_embeddings"],
        "model.text.vocab_size": text["vocab_size"],
        "model.text.causal": False,
        "model.text.pool": "last",
        **sentence_pieces(folder),
    }
