"""timm's ViT, an image tower alone: folders of the hub, or weights alone.

Source: huggingface/pytorch-image-models, `vision_transformer.py`, `_hub.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.json_files import read_json
from clipin_jax.interop.descriptions.open_clip_weights import timm_vit
from clipin_jax.interop.descriptions.sizes import HALVES, preparation, usual_heads
from clipin_jax.interop.file_arrays import Reading
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.vit import timm_table
from clipin_jax.interop.weights import Weights

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MARKS = ("patch_embed.proj.weight", "blocks.0.norm1.weight")
ACTIVATION = "model.image.activation"
_POOLS = {"token": "cls", "map": "map"}


def open_timm(folder: Path) -> ForeignModel | None:
    """Opens a folder that timm pushed to the hub; None if it is none.

    Raises:
      ClipinError: a model that is no ViT of ours, or damaged files.
    """
    path = folder / CONFIG
    content = read_json(path) if path.is_file() else {}
    if "architecture" not in content or "model_type" in content:
        return None
    architecture = content["architecture"]
    weights = open_folder(folder, WEIGHTS)
    if not set(MARKS) <= set(weights.names()):
        raise ClipinError(
            f"{path} has architecture {architecture!r}: of timm we read its ViT alone"
        )
    model = open_timm_weights(weights)
    pretrained = content.get("pretrained_cfg", {})
    with Reading(str(path)):
        stated, notes = _stated(path, content, pretrained), _notes(pretrained)
    quick = "quickgelu" in str(architecture)
    stated[ACTIVATION] = "quick_gelu" if quick else "gelu"
    return model._replace(
        label=f"timm's {architecture} in {folder}",
        settings=dict(model.settings) | stated,
        assumed={k: v for k, v in model.assumed.items() if k not in stated},
        notes=notes,
    )


def open_timm_weights(weights: Weights) -> ForeignModel:
    """Describes weights alone. Raises ClipinError."""
    settings = timm_vit(weights)
    return ForeignModel(
        label=f"timm's ViT in {weights.origin}",
        weights=weights,
        table=timm_table(),
        config="",
        settings=settings,
        assumed=usual_heads(settings)
        | {ACTIVATION: "gelu"}
        | preparation(HALVES, HALVES),
    )


def _stated(
    path: Path, content: Mapping[str, Any], pretrained: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the settings that config.json states."""
    settings: dict[str, Any] = {}
    for key in ("mean", "std"):
        if key in pretrained:
            settings[f"model.image_{key}"] = tuple(map(float, pretrained[key]))
    if pretrained.get("interpolation") in ("bicubic", "bilinear"):
        settings["data.augment.interpolation"] = pretrained["interpolation"]
    if pool := content.get("global_pool"):
        if pool not in _POOLS:
            raise ClipinError(
                f"{path} has global_pool {pool!r}: our towers know only "
                f"{', '.join(_POOLS)}"
            )
        settings["model.image.pool"] = _POOLS[pool]
    return settings


def _notes(pretrained: Mapping[str, Any]) -> list[str]:
    share = pretrained.get("crop_pct", 1.0)
    if share == 1.0:
        return []
    return [
        f"it was evaluated on the central {share} of an image's shorter side; here all "
        "of that side is kept"
    ]
