"""Folders that Hugging Face's transformers loads: `CLIPModel` and `SiglipModel`.

Source: huggingface/transformers, `modeling_clip.py`, `modeling_siglip.py` and their
configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.files import ACTIVATIONS
from clipin_jax.interop.descriptions.huggingface.images import INTERPOLATIONS, SQUASH
from clipin_jax.interop.exports.folder import (
    Contents,
    WriteFile,
    json_file,
    safetensors_file,
)
from clipin_jax.interop.exports.kept_arrays import kept_arrays, kept_note
from clipin_jax.interop.exports.projections import merge_projection, move_bias
from clipin_jax.interop.exports.requirements import (
    LINEAR_TOWERS,
    objective_of,
    require,
    square_sides,
)
from clipin_jax.interop.exports.tokenizer_files import SENTENCE_PIECES, tokenizer_files
from clipin_jax.interop.exports.trained_model import TrainedModel
from clipin_jax.interop.table import Table
from clipin_jax.interop.tables.huggingface_clip import clip_table
from clipin_jax.interop.tables.huggingface_siglip import siglip_table

CLIP, SIGLIP = "CLIPModel", "SiglipModel"
_THEIR_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
_THEIR_FILTERS = {name: number for number, name in INTERPOLATIONS.items()}
_BOTH: dict[str, Sequence[Any]] = LINEAR_TOWERS | {
    "model.image.activation": tuple(_THEIR_ACTIVATIONS),
    "model.text.activation": tuple(_THEIR_ACTIVATIONS),
    "data.augment.interpolation": tuple(_THEIR_FILTERS),
}
_OF_CLIP: dict[str, Sequence[Any]] = _BOTH | {
    "model.image.pool": ("cls",),
    "model.image.pre_norm": (True,),
    "model.image.patch_bias": (False,),
    "model.text.pool": ("end",),
    "model.text.causal": (True,),
}
_OF_SIGLIP: dict[str, Sequence[Any]] = _BOTH | {
    "model.image.pool": ("map",),
    "model.image.pre_norm": (False,),
    "model.image.patch_bias": (True,),
    "model.text.pool": ("last",),
    "model.text.causal": (False,),
}
_LEGACY_END = 2  # the id for which CLIPModel pools at the largest id instead


def export_huggingface(model: TrainedModel) -> Contents:
    """Returns a folder of `CLIPModel`, or of `SiglipModel` for the sigmoid loss.

    Raises:
      ClipinError: the class cannot hold the model.
    """
    kinds = {spec.get("type", name) for name, spec in model.config.objectives.items()}
    export = next((_EXPORTS[kind] for kind in _EXPORTS if kind in kinds), None)
    if export is None:
        raise ClipinError(
            f"transformers' classes need an objective of type {' or '.join(_EXPORTS)}, "
            f"and the run has {', '.join(sorted(kinds))}"
        )
    return export(model)


def _export_clip(model: TrainedModel) -> Contents:
    config, tokenizer = model.config, model.tokenizer
    require(config, CLIP, _OF_CLIP)
    if tokenizer.pad or tokenizer.end == _LEGACY_END:
        raise ClipinError(
            f"{CLIP} cannot hold this model: it pools at the first end mark, and the "
            "run at the last id that is not 0, after its padding with "
            f"{tokenizer.pad}"
        )
    arrays = kept_arrays(model, objective_of(config, CLIP, "contrastive"))
    for modality, norm in (("image", "ln_post"), ("text", "ln_final")):
        tower = f"towers/{modality}"
        arrays = merge_projection(arrays, modality)
        arrays = move_bias(arrays, f"{tower}_projection", f"{tower}/{norm}", CLIP)
    content = _description(model, CLIP, "clip") | {
        "projection_dim": config.model.embed_dim,
        "logit_scale_init_value": float(arrays["objectives_contrastive/logit_scale"]),
    }
    return _contents(model, content, clip_table(), arrays)


def _export_siglip(model: TrainedModel) -> Contents:
    config = model.config
    require(config, SIGLIP, _OF_SIGLIP)
    arrays = kept_arrays(model, objective_of(config, SIGLIP, "sigmoid"))
    text = "towers/text"
    arrays = merge_projection(arrays, "text")
    if "towers/image_projection/kernel" in arrays:
        raise ClipinError(
            f"{SIGLIP} cannot hold this model: it has no layer after the image tower, "
            "and the run has a projection there (as with CLIPin's pre-projector): "
            "model.pre_projector=0 trains a model without"
        )
    if f"{text}_projection/bias" not in arrays:
        width = np.shape(arrays[f"{text}_projection/kernel"])[1]
        arrays[f"{text}_projection/bias"] = np.zeros(width, np.float32)
    content = _description(model, SIGLIP, "siglip")
    content["text_config"]["projection_size"] = config.model.embed_dim
    return _contents(model, content, siglip_table(), arrays)


_EXPORTS = {"contrastive": _export_clip, "sigmoid": _export_siglip}


def _description(model: TrainedModel, name: str, kind: str) -> dict[str, Any]:
    """Returns the content of config.json."""
    config, tokenizer = model.config, model.tokenizer
    side, patch = square_sides(config, name)
    vision = _tower(config.model.image) | dict(image_size=side, patch_size=patch)
    text = _tower(config.model.text) | dict(
        vocab_size=config.model.text.vocab_size,
        max_position_embeddings=config.model.text.context_length,
        bos_token_id=tokenizer.start,
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.pad,
    )
    return dict(
        architectures=[name],
        model_type=kind,
        torch_dtype=config.model.param_dtype,
        vision_config=dict(vision, model_type=f"{kind}_vision_model"),
        text_config=dict(text, model_type=f"{kind}_text_model"),
    )


def _tower(spec: ConfigDict) -> dict[str, Any]:
    return dict(
        hidden_size=spec.width,
        intermediate_size=int(spec.mlp_ratio * spec.width),
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.num_heads,
        hidden_act=_THEIR_ACTIVATIONS[spec.activation],
        layer_norm_eps=spec.norm_eps,
    )


def _contents(
    model: TrainedModel,
    content: Mapping[str, Any],
    table: Table,
    arrays: Mapping[str, np.ndarray],
) -> Contents:
    [name] = content["architectures"]
    # SigLIP attends to padding, so that a mask would change its features.
    inputs = ["input_ids", "attention_mask"][: 2 if name == CLIP else 1]
    files = tokenizer_files(model, inputs)
    notes = [*kept_note(model, arrays)]
    if SENTENCE_PIECES in files:
        notes.append(
            "No class of transformers splits texts as the run does: use "
            f"{SENTENCE_PIECES} with sentencepiece, lower-case texts first if the run "
            "did, and pad with the end mark."
        )
    return Contents(
        files={
            "config.json": json_file(content),
            "model.safetensors": safetensors_file(
                table.from_flat(arrays), {"format": "pt"}
            ),
            "preprocessor_config.json": _preprocessor(model.config, name),
            **files,
        },
        library="transformers",
        usage=_USAGE,
        notes=notes,
    )


def _preprocessor(config: ConfigDict, name: str) -> WriteFile:
    """Returns how evaluation prepares images: it crops or squashes them."""
    height, width = size = config.data.image_size
    whole = dict(height=height, width=width)
    if config.data.resize == SQUASH:
        resized = dict(image_processor_type="SiglipImageProcessor", size=whole)
    else:
        resized = dict(
            image_processor_type="CLIPImageProcessor",
            size=dict(shortest_edge=min(size)),
            do_center_crop=True,
            crop_size=whole,
        )
    return json_file(
        dict(
            **resized,
            processor_class=name.replace("Model", "Processor"),
            do_convert_rgb=True,
            do_resize=True,
            resample=_THEIR_FILTERS[config.data.augment.interpolation],
            do_rescale=True,
            rescale_factor=1 / 255,
            do_normalize=True,
            image_mean=list(config.model.image_mean),
            image_std=list(config.model.image_std),
        )
    )


_USAGE = """\
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("FOLDER")
images = AutoImageProcessor.from_pretrained("FOLDER")(
    Image.open("image.jpg"), return_tensors="pt"
)
texts = AutoTokenizer.from_pretrained("FOLDER")(
    ["a red star"], padding="max_length", truncation=True, return_tensors="pt"
)
outputs = model(**images, **texts)
outputs.image_embeds, outputs.text_embeds  # of unit norm
"""
