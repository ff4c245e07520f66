"""What the folders of transformers' models have in common: files, blocks, tokenizers.

Keys that a config.json leaves out have the defaults of its class in transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.json_files import read_json

CONFIG = "config.json"
# The first one counts.
WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin")
_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
_VOCABULARY, _PIECES = "vocab.txt", ("spiece.model", "tokenizer.model")
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
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


def image_sizes(side: int, patch: int) -> dict[str, Any]:
    """Returns the settings of square images and patches.

    Args:
      side: of an image, in pixels.
      patch: side of a patch, in pixels.
    """
    return {
        "model.image.image_size": (side, side),
        "model.image.patch_size": (patch, patch),
    }


def require(content: Mapping[str, Any], path: Path, **values: Any) -> None:
    """Checks values that our towers take for granted; a key that is absent has them.

    Raises:
      ClipinError: another value.
    """
    for key, expected in values.items():
        if (value := content.get(key, expected)) != expected:
            raise ClipinError(
                f"{path} has {key} {value!r}: we read only models with {expected!r}"
            )


def tokenizer_file(folder: Path) -> Path | None:
    """Returns a folder's tokenizer.json; None if there is none."""
    path = folder / _TOKENIZER
    return path if path.is_file() else None


def word_pieces(folder: Path) -> dict[str, Any]:
    """Returns the settings of a WordPiece tokenizer: its kind, and what files state."""
    settings: dict[str, Any] = {"data.tokenizer.name": "wordpiece"}
    if (path := folder / _VOCABULARY).is_file():
        settings["data.tokenizer.vocabulary"] = path
    if (path := folder / _TOKENIZER_CONFIG).is_file():
        lowercase = read_json(path).get("do_lower_case", True)
        settings["data.tokenizer.lowercase"] = bool(lowercase)
    return settings


def sentence_pieces(folder: Path) -> dict[str, Any]:
    """Returns the settings of a SentencePiece tokenizer; none without a model of it."""
    for name in _PIECES:
        if (path := folder / name).is_file():
            return {
                "data.tokenizer.name": "sentencepiece",
                "data.tokenizer.model": path,
            }
    return {}
