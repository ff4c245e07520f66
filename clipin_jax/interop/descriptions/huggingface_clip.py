"""Folders of transformers' `CLIPModel`: its config.json and preprocessor_config.json.

Keys that a file leaves out have the default of transformers' `CLIPConfig`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.json_files import read_json
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.huggingface_clip import clip_table

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# The first one counts.
WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin")
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # numbers of Pillow's filters
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
        settings=_settings(content, folder / CONFIG) | preparation(folder),
    )


def _settings(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    vision = VISION | content.get("vision_config", {})
    text = TEXT | content.get("text_config", {})
    image_size, patch_size = vision["image_size"], vision["patch_size"]
    return {
        "model.embed_dim": content.get("projection_dim", 512),
        "model.image.name": "vit",
        **tower_settings("model.image", vision, path),
        "model.image.image_size": (image_size, image_size),
        "model.image.patch_size": (patch_size, patch_size),
        "model.image.patch_bias": False,
        "model.image.pool": "cls",
        "model.image.pre_norm": True,
        "model.text.name": "text_transformer",
        **tower_settings("model.text", text, path),
        "model.text.context_length": text["max_position_embeddings"],
        "model.text.vocab_size": text["vocab_size"],
        "model.text.causal": True,
        "model.text.pool": "end",
        "data.tokenizer.name": "bpe",
    }


def tower_settings(key: str, tower: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns the settings of a tower's blocks.

    Args:
      key: of the tower in our configs.
      tower: its part of config.json, with all defaults.
      path: of the file, for messages.

    Raises:
      ClipinError: an activation that our blocks do not have.
    """
    activation = tower["hidden_act"]
    if activation not in ACTIVATIONS:
        raise ClipinError(
            f"{path} has hidden_act {activation!r}: our towers know only "
            f"{', '.join(ACTIVATIONS)}"
        )
    return {
        f"{key}.width": tower["hidden_size"],
        f"{key}.depth": tower["num_hidden_layers"],
        f"{key}.num_heads": tower["num_attention_heads"],
        f"{key}.mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
        f"{key}.activation": ACTIVATIONS[activation],
        f"{key}.norm_eps": float(tower["layer_norm_eps"]),
    }


def preparation(folder: Path) -> dict[str, Any]:
    """Returns the settings of a folder's preprocessor_config.json; none without one."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        return {}
    content = read_json(path)
    settings: dict[str, Any] = {}
    for ours, theirs in (("image_mean", "image_mean"), ("image_std", "image_std")):
        if theirs in content:
            settings[f"model.{ours}"] = tuple(map(float, content[theirs]))
    if (number := content.get("resample")) is not None:
        if number not in INTERPOLATIONS:
            raise ClipinError(f"{path} has resample {number}, which we do not have")
        settings["data.augment.interpolation"] = INTERPOLATIONS[number]
    return settings
