"""Folders of transformers' `CLIPModel`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.interop.descriptions.huggingface.files import (
    CONFIG,
    WEIGHTS,
    image_sizes,
    tokenizer_file,
    tower_settings,
)
from clipin_jax.interop.descriptions.huggingface.images import SHORTEST, preparation
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.huggingface_clip import clip_table

_TOWER = dict(hidden_act="quick_gelu", layer_norm_eps=1e-5, num_hidden_layers=12)
VISION = _TOWER | dict(
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    image_size=224,
    patch_size=32,
)
TEXT = _TOWER | dict(
    hidden_size=512,
    intermediate_size=2048,
    num_attention_heads=8,
    max_position_embeddings=77,
    vocab_size=49408,
)


def open_clip_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `CLIPModel`.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: files are missing or damaged, or state what our models do not have.
    """
    return ForeignModel(
        label=f"the CLIPModel in {folder}",
        weights=open_folder(folder, WEIGHTS),
        table=clip_table(),
        config="clip",
        settings=_settings(content, folder / CONFIG)
        | preparation(folder, plain_size=SHORTEST),
        tokenizer=tokenizer_file(folder),
    )


def _settings(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    vision = VISION | content.get("vision_config", {})
    text = TEXT | content.get("text_config", {})
    return {
        "model.embed_dim": content.get("projection_dim", 512),
        "model.image.name": "vit",
        **tower_settings("model.image", vision, path),
        **image_sizes(vision["image_size"], vision["patch_size"]),
        "model.image.patch_bias": False,
        "model.image.pool": "cls",
        "model.image.pre_norm": True,
        "model.text.name": "text_transformer",
        **tower_settings("model.text", text, path),
        "model.text.context_length": text["max_position_embeddings"],
        "model.text.vocab_size": text["vocab_size"],
        "model.text.causal": True,
        # Theirs is the first end token. They pad with it, we pad with 0 instead: the
        # causal mask hides the padding from the token that is pooled.
        "model.text.pool": "end",
        "data.tokenizer.name": "bpe",
        "data.tokenizer.pad_with_end": False,
    }
