"""Checkpoints of ALBEF and BLIP: sizes from the shapes of their arrays.

Their codes fix what shapes do not tell: activation, norm epsilon, mean and deviation.
Position tables are longer than the texts of pretraining, and padding is masked, so that
`model.text.context_length` is free up to their length.
"""

import re
from typing import Any

from clipin_jax.interop.descriptions.open_clip_weights import timm_vit
from clipin_jax.interop.descriptions.sizes import (
    CLIP_MEAN,
    CLIP_STD,
    count_layers,
    perceptron_sizes,
    preparation,
    usual_heads,
)
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.bert import LAYER, albef_table, blip_table
from clipin_jax.interop.weights import Weights

TEXT = "model.text"


def open_albef(weights: Weights) -> ForeignModel:
    """Describes ALBEF. Raises ClipinError."""
    prefix = "text_encoder.bert."
    depth = count_layers(weights, f"{prefix}{LAYER}.")
    crossed = re.compile(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.crossattention\.")
    matches = map(crossed.match, weights.names())
    fused = len({match[1] for match in matches if match})
    types = weights.shape(f"{prefix}embeddings.token_type_embeddings.weight")[0]
    settings = _settings(weights, prefix) | {
        f"{TEXT}.name": "split_bert",
        f"{TEXT}.depth": depth - fused,
        f"{TEXT}.fusion_depth": fused,
        f"{TEXT}.token_types": types,
    }
    return ForeignModel(
        label=f"ALBEF in {weights.origin}",
        weights=weights,
        table=albef_table(depth - fused, depth),
        config="albef",
        settings=settings,
        assumed=usual_heads(settings),
    )


def open_blip(weights: Weights) -> ForeignModel:
    """Describes BLIP. Raises ClipinError."""
    prefix = "text_encoder."
    settings = _settings(weights, prefix) | {
        f"{TEXT}.name": "mixture_bert",
        f"{TEXT}.depth": count_layers(weights, f"{prefix}{LAYER}."),
    }
    return ForeignModel(
        label=f"BLIP in {weights.origin}",
        weights=weights,
        table=blip_table(),
        config="blip",
        settings=settings,
        assumed=usual_heads(settings),
    )


def _settings(weights: Weights, prefix: str) -> dict[str, Any]:
    words = weights.shape(f"{prefix}embeddings.word_embeddings.weight")[0]
    perceptron = f"{prefix}{LAYER}.intermediate.dense.weight".replace("{n}", "0")
    return {
        "model.embed_dim": weights.shape("vision_proj.weight")[0],
        **timm_vit(weights, "visual_encoder."),
        "model.image.activation": "gelu",
        **perceptron_sizes(weights, TEXT, perceptron),
        f"{TEXT}.vocab_size": words,
        f"{TEXT}.activation": "gelu",
        f"{TEXT}.norm_eps": 1e-12,
        **preparation(CLIP_MEAN, CLIP_STD),
        "data.tokenizer.name": "wordpiece",
    }
