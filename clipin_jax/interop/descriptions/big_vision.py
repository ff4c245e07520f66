"""big_vision's `.npz` files: SigLIP, or a ViT alone; sizes from the shapes.

Its code fixes the rest: GELU by tanh, epsilon 1e-6, pixels from -1 to 1. Texts are
pooled at their last place, without a mask.
"""

from typing import Any

from clipin_jax.interop.descriptions.layer_slices import LayerSlices
from clipin_jax.interop.descriptions.sizes import (
    HALVES,
    count_layers,
    image_sizes,
    preparation,
)
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.big_vision import siglip_table, vit_table
from clipin_jax.interop.weights import Weights

IMAGE, TEXT = "model.image", "model.text"
_QUERY = "MultiHeadDotProductAttention_0/query/kernel"


def open_siglip(weights: Weights) -> ForeignModel:
    """Describes SigLIP. Raises ClipinError."""
    weights = LayerSlices(weights)
    text = _encoder(weights, TEXT, "txt/Encoder_0/encoderblock_")
    image = _vit(weights, "img/")
    settings = {
        "model.embed_dim": weights.shape("txt/head/kernel")[1],
        **image,
        f"{TEXT}.name": "text_transformer",
        **text,
        f"{TEXT}.context_length": weights.shape("txt/pos_embedding")[1],
        f"{TEXT}.vocab_size": weights.shape("txt/Embed_0/embedding")[0],
        f"{TEXT}.causal": False,
        f"{TEXT}.pool": "last",
    }
    return ForeignModel(
        label=f"big_vision's SigLIP in {weights.origin}",
        weights=weights,
        table=siglip_table(image[f"{IMAGE}.num_heads"], text[f"{TEXT}.num_heads"]),
        config="siglip",
        settings=settings,
        assumed={"data.tokenizer.name": "sentencepiece"},
    )


def open_vit(weights: Weights) -> ForeignModel:
    """Describes a ViT alone. Raises ClipinError."""
    weights = LayerSlices(weights)
    image = _vit(weights, "")
    return ForeignModel(
        label=f"big_vision's ViT in {weights.origin}",
        weights=weights,
        table=vit_table(
            image[f"{IMAGE}.num_heads"], class_token=image[f"{IMAGE}.pool"] == "cls"
        ),
        config="",
        settings=image,
    )


def _vit(weights: Weights, prefix: str) -> dict[str, Any]:
    names = set(weights.names())
    patch = weights.shape(f"{prefix}embedding/kernel")[0]
    positions = weights.shape(f"{prefix}pos_embedding")[1]
    pool = "cls" if f"{prefix}cls" in names else "mean"
    if f"{prefix}MAPHead_0/probe" in names:
        pool = "map"
    return {
        f"{IMAGE}.name": "vit",
        **_encoder(weights, IMAGE, f"{prefix}Transformer/encoderblock_"),
        **image_sizes(weights, positions, patch, extra=0),
        f"{IMAGE}.patch_bias": True,
        f"{IMAGE}.pre_norm": False,
        f"{IMAGE}.pool": pool,
        **preparation(HALVES, HALVES),
    }


def _encoder(weights: Weights, key: str, block: str) -> dict[str, Any]:
    width, hidden = weights.shape(f"{block}0/MlpBlock_0/Dense_0/kernel")
    return {
        f"{key}.width": width,
        f"{key}.mlp_ratio": hidden / width,
        f"{key}.depth": count_layers(weights, f"{block}{{n}}/"),
        f"{key}.num_heads": weights.shape(f"{block}0/{_QUERY}")[1],
        f"{key}.activation": "gelu_tanh",
        f"{key}.norm_eps": 1e-6,
    }
