"""Folders of open_clip: `open_clip_config.json` beside the weights.

Sizes come from the shapes of the arrays, and the file states the rest. Keys that it
leaves out have the default of open_clip's `CLIPVisionCfg` and `CLIPTextCfg`, so that
the activation is GELU unless `quick_gelu` is true.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.json_files import read_json, value_of
from clipin_jax.interop.descriptions.open_clip_weights import IMAGE, TEXT
from clipin_jax.interop.descriptions.single_files import describe
from clipin_jax.interop.file_arrays import Reading
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel

CONFIG = "open_clip_config.json"
# The first one counts.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
TIMM, OTHER_TEXT = "timm_model_name", "hf_model_name"
_TEXT_POOLS = {"argmax": "end", "last": "last"}
# Keys of which our towers have one value alone.
_FIXED = {
    "vision_cfg": {"pool_type": "tok", "global_average_pool": False},
    "text_cfg": {OTHER_TEXT: None, "use_pad_mask": False},
}


def open_open_clip(folder: Path) -> ForeignModel | None:
    """Opens a folder of open_clip; None if it is none.

    Raises:
      ClipinError: a model that our towers cannot be, or damaged files.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    content = read_json(path)
    with Reading(str(path)):
        config = value_of(content, "model_cfg", path)
        preprocessing = content.get("preprocess_cfg", {})
        _check_fixed(path, config)
        notes = _notes(preprocessing)
        model = describe(open_folder(folder, WEIGHTS))
        stated = _stated(path, config, model) | _preparation(preprocessing)
    # Heads: at some widths there is no usual number.
    known = {
        *model.settings,
        *model.assumed,
        *(f"{x}.num_heads" for x in (IMAGE, TEXT)),
    }
    stated = {k: v for k, v in stated.items() if k in known or k.startswith("data.")}
    return model._replace(
        label=f"open_clip's model in {folder}",
        settings=dict(model.settings) | stated,
        assumed={k: v for k, v in model.assumed.items() if k not in stated},
        notes=notes,
    )


def _check_fixed(path: Path, config: Mapping[str, Any]) -> None:
    for part, fixed in _FIXED.items():
        for key, only in fixed.items():
            value = config.get(part, {}).get(key, only)
            if value not in (only, None):
                raise ClipinError(
                    f"{path} has {part}.{key} {value!r}, which our towers do not have: "
                    f"we read only {only!r}"
                )


def _stated(
    path: Path, config: Mapping[str, Any], model: ForeignModel
) -> dict[str, Any]:
    """Returns the settings that the file states, of both towers."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    quick = bool(config.get("quick_gelu", False))
    settings: dict[str, Any] = {"model.embed_dim": value_of(config, "embed_dim", path)}
    if "image_size" in vision:
        size = vision["image_size"]
        both = tuple(size) if isinstance(size, list) else (size, size)
        settings[f"{IMAGE}.image_size"] = both
    if TIMM not in vision:
        settings |= _image(vision, model)
        settings |= _block(IMAGE, vision, quick)
    settings |= _text(path, config, text)
    settings |= _block(TEXT, text, quick)
    if not text.get("hf_tokenizer_name"):
        settings["data.tokenizer.name"] = "bpe"
    return settings


def _image(vision: Mapping[str, Any], model: ForeignModel) -> dict[str, Any]:
    width = vision.get("width", 768)
    # A residual network attends once, over 32 times its width.
    attended = width * 32 if f"{IMAGE}.depths" in model.settings else width
    return {
        f"{IMAGE}.width": width,
        f"{IMAGE}.num_heads": attended // vision.get("head_width", 64),
        f"{IMAGE}.pool_heads": vision.get("attn_pooler_heads", 8),
        f"{IMAGE}.pre_norm": not vision.get("no_ln_pre", False),
    }


def _text(
    path: Path, config: Mapping[str, Any], text: Mapping[str, Any]
) -> dict[str, Any]:
    pool = text.get("pool_type", "argmax")
    if pool not in _TEXT_POOLS:
        raise ClipinError(
            f"{path} has text_cfg.pool_type {pool!r}: our towers know only "
            f"{', '.join(_TEXT_POOLS)}"
        )
    heads = text.get("heads", 8)
    other_half = config.get("multimodal_cfg", {}).get("heads", heads)
    if other_half != heads:
        raise ClipinError(
            f"{path} has {heads} heads in text_cfg and {other_half} in multimodal_cfg: "
            "our tower has the same number in both"
        )
    corrected = text.get("correct_cls_mask", False)
    return {
        f"{TEXT}.width": text.get("width", 512),
        f"{TEXT}.context_length": text.get("context_length", 77),
        f"{TEXT}.vocab_size": text.get("vocab_size", 49408),
        f"{TEXT}.num_heads": heads,
        f"{TEXT}.causal": not text.get("no_causal_mask", False),
        f"{TEXT}.pool": _TEXT_POOLS[pool],
        f"{TEXT}.padding_mask": "aligned" if corrected else "shifted",
    }


def _block(key: str, tower: Mapping[str, Any], quick: bool) -> dict[str, Any]:
    by_tanh = (tower.get("act_kwargs") or {}).get("approximate") == "tanh"
    gelu = "gelu_tanh" if by_tanh else "gelu"
    eps = (tower.get("norm_kwargs") or {}).get("eps", 1e-5)
    return {
        f"{key}.activation": "quick_gelu" if quick else gelu,
        f"{key}.norm_eps": float(eps),
    }


_RESIZES = ("shortest", "squash")  # those of ours, by the same names


def _preparation(content: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key in ("mean", "std"):
        if key in content:
            settings[f"model.image_{key}"] = tuple(map(float, content[key]))
    if content.get("interpolation") in ("bicubic", "bilinear"):
        settings["data.augment.interpolation"] = content["interpolation"]
    if content.get("resize_mode") in _RESIZES:
        settings["data.resize"] = content["resize_mode"]
    return settings


def _notes(content: Mapping[str, Any]) -> list[str]:
    mode = content.get("resize_mode", _RESIZES[0])
    if mode in _RESIZES:
        return []
    return [
        f"its images are resized by {mode!r}; ours are by data.resize, one of "
        f"{', '.join(_RESIZES)}"
    ]
