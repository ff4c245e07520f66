"""Folders that open_clip loads: CLIP with a ViT or a residual network, and CoCa.

Source: mlfoundations/open_clip, `model.py`, `coca_model.py`, `factory.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.interop.exports.folder import Contents, json_file, safetensors_file
from clipin_jax.interop.exports.kept_arrays import kept_arrays, kept_note
from clipin_jax.interop.exports.projections import (
    merge_layers,
    merge_projection,
    move_bias,
)
from clipin_jax.interop.exports.requirements import (
    objective_of,
    require,
    square_sides,
)
from clipin_jax.interop.exports.tokenizer_files import check_captions
from clipin_jax.interop.exports.trained_model import TrainedModel
from clipin_jax.interop.table import Table
from clipin_jax.interop.tables.open_clip import clip_table, coca_table, resnet_table

OPEN_CLIP = "open_clip"
_EPS = 1e-5  # unless the description states another
_IMAGE, _TEXT = "towers/image", "towers/text"
_GELUS = ("gelu", "quick_gelu")
_BOTH: dict[str, Sequence[Any]] = {
    "model.embedding_from": ("",),
    "data.tokenizer.name": ("bpe",),
    "data.augment.interpolation": ("bicubic", "bilinear"),
}
_TEXT_TRANSFORMER: dict[str, Sequence[Any]] = {
    "model.text.name": ("text_transformer",),
    "model.text.causal": (True,),
    "model.text.pool": ("end",),
    "model.text.activation": (*_GELUS, "gelu_tanh"),
}

Arrays = dict[str, np.ndarray]


class _Kind(NamedTuple):
    """How a kind of image tower is described and written.

    Attributes:
      allowed: see `requirements.require`.
      describe: a config -> the content of `model_cfg`, but for what all kinds have.
      project: arrays -> those with one matrix for each projection.
      table: a config -> its names.
    """

    allowed: Mapping[str, Sequence[Any]]
    describe: Callable[[ConfigDict], dict[str, Any]]
    project: Callable[[Arrays], Arrays]
    table: Callable[[ConfigDict], Table]


def export_open_clip(model: TrainedModel) -> Contents:
    """Returns a folder with open_clip's config and weights.

    Raises:
      ClipinError: open_clip cannot hold the model.
    """
    config = model.config
    check_choice(f"{OPEN_CLIP}: model.image.name", config.model.image.name, _KINDS)
    kind = _KINDS[config.model.image.name]
    require(config, OPEN_CLIP, {**_BOTH, **kind.allowed})
    check_captions(model)
    if model.tokenizer.pad:
        raise ClipinError(
            f"{OPEN_CLIP} cannot hold this model: its tokenizer pads with 0, and that "
            "of the run with its end mark"
        )
    arrays = kind.project(
        kept_arrays(model, objective_of(config, OPEN_CLIP, "contrastive"))
    )
    arrays = move_bias(
        merge_projection(arrays, "text"),
        "towers/text_projection", f"{_TEXT}/ln_final", OPEN_CLIP,
    )  # fmt: skip
    content = dict(
        model_cfg=_model_cfg(config, kind), preprocess_cfg=_preparation(config)
    )
    weights = safetensors_file(kind.table(config).from_flat(arrays), {"format": "pt"})
    return Contents(
        files={
            "open_clip_config.json": json_file(content),
            "open_clip_model.safetensors": weights,
        },
        library="open_clip",
        usage=_USAGE,
        notes=[*kept_note(model, arrays)],
    )


def _model_cfg(config: ConfigDict, kind: _Kind) -> dict[str, Any]:
    model = config.model
    activations = {
        part.activation for part in (model.image, model.text) if "activation" in part
    }
    quick = "quick_gelu" in activations
    if quick and len(activations) > 1:
        raise ClipinError(
            f"{OPEN_CLIP} cannot hold this model: it has QuickGELU in both towers or "
            f"in none, and the run has {model.image.activation!r} and "
            f"{model.text.activation!r}"
        )
    return dict(embed_dim=model.embed_dim, quick_gelu=quick, **kind.describe(config))


def _preparation(config: ConfigDict) -> dict[str, Any]:
    return dict(
        size=list(config.data.image_size),
        mode="RGB",
        mean=list(config.model.image_mean),
        std=list(config.model.image_std),
        interpolation=config.data.augment.interpolation,
        resize_mode=config.data.resize,
        fill_color=0,
    )


def _stack(spec: ConfigDict) -> dict[str, Any]:
    """Returns the sizes of blocks, and what differs from open_clip's defaults."""
    sizes = dict(width=spec.width, layers=spec.depth, mlp_ratio=spec.mlp_ratio)
    if spec.activation == "gelu_tanh":
        sizes["act_kwargs"] = dict(approximate="tanh")
    if spec.norm_eps != _EPS:
        sizes["norm_kwargs"] = dict(eps=spec.norm_eps)
    return sizes


def _text(spec: ConfigDict) -> dict[str, Any]:
    return _stack(spec) | dict(
        heads=spec.num_heads,
        context_length=spec.context_length,
        vocab_size=spec.vocab_size,
    )


def _patches(config: ConfigDict) -> dict[str, Any]:
    image = config.model.image
    side, patch = square_sides(config, OPEN_CLIP)
    return _stack(image) | dict(
        head_width=image.width // image.num_heads, image_size=side, patch_size=patch
    )


def _vit(config: ConfigDict) -> dict[str, Any]:
    return dict(vision_cfg=_patches(config), text_cfg=_text(config.model.text))


def _resnet(config: ConfigDict) -> dict[str, Any]:
    image = config.model.image
    side, _ = square_sides(config, OPEN_CLIP)
    attended = image.width * 2 ** (len(image.depths) + 1)
    vision = dict(
        layers=list(image.depths),
        width=image.width,
        head_width=attended // image.num_heads,
        image_size=side,
        patch_size=None,
    )
    return dict(vision_cfg=vision, text_cfg=_text(config.model.text))


def _coca(config: ConfigDict) -> dict[str, Any]:
    image, text = config.model.image, config.model.text
    widths = {config.model.embed_dim, image.pool_width, text.width}
    if len(widths) > 1:
        raise ClipinError(
            f"{OPEN_CLIP} cannot hold this model: model.embed_dim, "
            "model.image.pool_width and model.text.width must be equal"
        )
    vision = _patches(config) | dict(
        attentional_pool=True,
        attn_pooler_queries=image.num_queries,
        attn_pooler_heads=image.pool_heads,
        output_tokens=True,
    )
    ends = dict(embed_cls=True, output_tokens=True, pad_id=text.pad_id)
    if text.padding_mask == "aligned":
        ends["correct_cls_mask"] = True  # versions that lack it refuse the key
    decoder = _text(text) | dict(
        layers=text.decoder_depth, attn_pooler_heads=text.num_heads
    )
    return dict(
        vision_cfg=vision,
        text_cfg=_text(text) | ends,
        multimodal_cfg=decoder,
        custom_text=True,
    )


def _project_vit(arrays: Arrays) -> Arrays:
    arrays = merge_projection(arrays, "image")
    norm = f"{_IMAGE}/ln_post"
    return move_bias(arrays, "towers/image_projection", norm, OPEN_CLIP)


def _project_resnet(arrays: Arrays) -> Arrays:
    """Merges the layers after the attention pool into its own last one."""
    out = f"{_IMAGE}/pool/out"
    after = ["towers/image_pre_projector", "towers/image_projection"]
    return merge_layers(arrays, [out, *after], out)


def _project_coca(arrays: Arrays) -> Arrays:
    """Merges layers; the norm before is also that of the caption's tokens."""
    arrays = merge_projection(arrays, "image")
    if "towers/image_projection/bias" in arrays:
        raise ClipinError(
            f"{OPEN_CLIP} cannot hold this model: its CoCa has no bias after the image "
            "tower, and the run has one (as with CLIPin's pre-projector)"
        )
    return arrays


_KINDS: dict[str, _Kind] = {
    "vit": _Kind(
        _TEXT_TRANSFORMER
        | {
            "model.image.pool": ("cls",),
            "model.image.pre_norm": (True,),
            "model.image.patch_bias": (False,),
            "model.image.activation": (*_GELUS, "gelu_tanh"),
        },
        _vit,
        _project_vit,
        lambda config: clip_table(),
    ),
    "resnet": _Kind(
        _TEXT_TRANSFORMER,
        _resnet,
        _project_resnet,
        lambda config: resnet_table(),
    ),
    "pooled_vit": _Kind(
        {
            "model.text.name": ("split_decoder",),
            "model.image.pool": ("single",),
            "model.image.class_token": (True,),
            "model.image.pre_norm": (True,),
            "model.image.patch_bias": (False,),
            # Of the decoder, open_clip's description states neither.
            "model.image.activation": _GELUS,
            "model.text.activation": _GELUS,
            "model.image.norm_eps": (_EPS,),
            "model.text.norm_eps": (_EPS,),
        },
        _coca,
        _project_coca,
        lambda config: coca_table(
            equal_widths=config.model.image.width == config.model.embed_dim
        ),
    ),
}

_USAGE = """\
import open_clip
from PIL import Image

model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
images = preprocess(Image.open("image.jpg")).unsqueeze(0)
model.encode_image(images, normalize=True)
model.encode_text(tokenizer(["a red star"]), normalize=True)
"""
