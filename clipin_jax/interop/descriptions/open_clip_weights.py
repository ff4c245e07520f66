"""Weights with open_clip's names: sizes from the shapes of their arrays.

What shapes do not tell is assumed: the heads, and the activation, which is GELU in
open_clip and QuickGELU in OpenAI's models. Only archives of OpenAI state it: no other
model has that form. Source: openai/CLIP, `model.py`, `build_model`.
"""

from typing import Any

from clipin_jax.interop.descriptions.sizes import (
    CLIP_MEAN,
    CLIP_STD,
    HALVES,
    HEAD_WIDTH,
    count_layers,
    image_sizes,
    perceptron_sizes,
    preparation,
    usual_heads,
)
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables import open_clip as tables
from clipin_jax.interop.weights import Weights

IMAGE, TEXT = "model.image", "model.text"
ACTIVATIONS = (f"{IMAGE}.activation", f"{TEXT}.activation")
STEM_AND_STAGES = 32  # pixels of an image for a cell of a residual network's last grid
_BLOCK = "transformer.resblocks."


def open_vit(weights: Weights) -> ForeignModel:
    """Describes CLIP with a ViT. Raises ClipinError."""
    return _contrastive(weights, _vit(weights), "", tables.clip_table())


def open_custom_text(weights: Weights) -> ForeignModel:
    """Describes CLIP whose text tower is a module of its own. Raises ClipinError."""
    return _contrastive(weights, _vit(weights), "text.", tables.custom_text_table())


def open_resnet(weights: Weights) -> ForeignModel:
    """Describes CLIP with a modified residual network. Raises ClipinError."""
    model = _contrastive(weights, _resnet(weights), "", tables.resnet_table())
    # It has ReLU alone.
    assumed = {k: v for k, v in model.assumed.items() if k != ACTIVATIONS[0]}
    width = weights.shape("visual.attnpool.positional_embedding")[1]
    heads = {f"{IMAGE}.num_heads": max(1, width // HEAD_WIDTH)}
    return model._replace(assumed=assumed | heads)


def open_archive(weights: Weights) -> ForeignModel:
    """Describes a TorchScript archive of OpenAI. Raises ClipinError."""
    has_layers = "visual.layer1.0.conv1.weight" in weights.names()
    model = open_resnet(weights) if has_layers else open_vit(weights)
    known = dict(model.assumed)
    known |= {key: "quick_gelu" for key in ACTIVATIONS if key in known}
    return model._replace(
        label=f"OpenAI's CLIP in {weights.origin}",
        settings=dict(model.settings) | known,
        assumed={},
    )


def open_coca(weights: Weights) -> ForeignModel:
    """Describes CoCa. Raises ClipinError."""
    equal = "visual.attn_pool.attn.in_proj_weight" in weights.names()
    queries, pool_width = weights.shape("visual.attn_pool.query")
    text = _text(weights, "text.")
    model = _contrastive(
        weights, _vit(weights), "text.", tables.coca_table(equal_widths=equal)
    )
    for key in ("causal", "pool"):  # a class token is pooled
        del text[f"{TEXT}.{key}"]
    settings = {
        "model.embed_dim": weights.shape("visual.proj")[1],
        **_vit(weights),
        f"{IMAGE}.name": "pooled_vit",
        f"{IMAGE}.pool": "single",
        f"{IMAGE}.num_queries": queries,
        f"{IMAGE}.pool_width": pool_width,
        **text,
        f"{TEXT}.name": "split_decoder",
        # The last place is the class token's.
        f"{TEXT}.context_length": text[f"{TEXT}.context_length"] - 1,
        f"{TEXT}.decoder_depth": count_layers(weights, "text_decoder.resblocks.{n}."),
    }
    assumed = dict(model.assumed) | {
        f"{IMAGE}.pool_heads": 8,
        f"{TEXT}.padding_mask": "shifted",
    }
    return model._replace(config="coca", settings=settings, assumed=assumed)


def open_siglip(weights: Weights) -> ForeignModel:
    """Describes SigLIP, whose image tower is timm's. Raises ClipinError."""
    text = _text(weights, "text.") | {
        f"{TEXT}.causal": False,
        f"{TEXT}.pool": "last",
        f"{TEXT}.norm_eps": 1e-6,
    }
    embed_dim = weights.shape("text.text_projection.weight")[0]
    settings = {
        "model.embed_dim": embed_dim,
        **timm_vit(weights, "visual.trunk."),
        **text,
    }
    return ForeignModel(
        label=f"open_clip's SigLIP in {weights.origin}",
        weights=weights,
        table=tables.siglip_table(),
        config="siglip",
        settings=settings,
        assumed=usual_heads(settings)
        | dict.fromkeys(ACTIVATIONS, "gelu_tanh")
        | preparation(HALVES, HALVES)
        | {"data.tokenizer.name": "sentencepiece"},
    )


def open_clipin(weights: Weights) -> ForeignModel:
    """Describes the released CLIPin, with its heads. Raises ClipinError."""
    predictor, projection = weights.shape("pred_layer1.0.weight")
    settings = {
        "model.embed_dim": weights.shape("img_proj_contrast.weight")[0],
        "model.pre_projector": weights.shape("visual.img_proj_front.weight")[0],
        **_vit(weights),
        **_text(weights, "TextEncoder."),
        **dict.fromkeys(ACTIVATIONS, "quick_gelu"),
        **preparation(CLIP_MEAN, CLIP_STD),
        "data.tokenizer.name": "bpe",
        "objectives.clipin.projection_dim": projection,
        "objectives.clipin.predictor": "mlp",
        "objectives.clipin.predictor_hidden_dim": predictor,
    }
    return ForeignModel(
        label=f"the released CLIPin in {weights.origin}",
        weights=weights,
        table=tables.clipin_table(),
        config="clip:clipin=released",
        settings=settings | usual_heads(settings),
    )


def timm_vit(weights: Weights, prefix: str = "") -> dict[str, Any]:
    """Returns the settings of timm's ViT, but for its activation and heads.

    Args:
      weights: with timm's names.
      prefix: of them.
    """
    names = set(weights.names())
    has_token = f"{prefix}cls_token" in names
    pool = "map" if f"{prefix}attn_pool.latent" in names else "mean"
    patch = weights.shape(f"{prefix}patch_embed.proj.weight")[-1]
    positions = weights.shape(f"{prefix}pos_embed")[1]
    return {
        f"{IMAGE}.name": "vit",
        **perceptron_sizes(weights, IMAGE, f"{prefix}blocks.0.mlp.fc1.weight"),
        f"{IMAGE}.depth": count_layers(weights, f"{prefix}blocks.{{n}}."),
        **image_sizes(weights, positions, patch, int(has_token)),
        f"{IMAGE}.patch_bias": True,
        f"{IMAGE}.pre_norm": False,
        f"{IMAGE}.norm_eps": 1e-6,
        f"{IMAGE}.pool": "cls" if has_token else pool,
    }


def _contrastive(
    weights: Weights, image: dict[str, Any], prefix: str, table: tables.Table
) -> ForeignModel:
    projection = weights.shape(f"{prefix}text_projection")
    settings = {"model.embed_dim": projection[1], **image, **_text(weights, prefix)}
    return ForeignModel(
        label=f"open_clip's model in {weights.origin}",
        weights=weights,
        table=table,
        config="clip",
        settings=settings,
        assumed=usual_heads(settings)
        | dict.fromkeys(ACTIVATIONS, "gelu")
        | preparation(CLIP_MEAN, CLIP_STD)
        | {"data.tokenizer.name": "bpe"},
    )


def _vit(weights: Weights) -> dict[str, Any]:
    positions = weights.shape("visual.positional_embedding")[0]
    patch = weights.shape("visual.conv1.weight")[-1]
    return {
        f"{IMAGE}.name": "vit",
        **perceptron_sizes(weights, IMAGE, f"visual.{_BLOCK}0.mlp.c_fc.weight"),
        f"{IMAGE}.depth": count_layers(weights, f"visual.{_BLOCK}{{n}}."),
        **image_sizes(weights, positions, patch),
        f"{IMAGE}.patch_bias": False,
        f"{IMAGE}.pre_norm": "visual.ln_pre.weight" in weights.names(),
        f"{IMAGE}.norm_eps": 1e-5,
        f"{IMAGE}.pool": "cls",
    }


def _text(weights: Weights, prefix: str) -> dict[str, Any]:
    return {
        f"{TEXT}.name": "text_transformer",
        **perceptron_sizes(weights, TEXT, f"{prefix}{_BLOCK}0.mlp.c_fc.weight"),
        f"{TEXT}.depth": count_layers(weights, f"{prefix}{_BLOCK}{{n}}."),
        f"{TEXT}.context_length": weights.shape(f"{prefix}positional_embedding")[0],
        f"{TEXT}.vocab_size": weights.shape(f"{prefix}token_embedding.weight")[0],
        f"{TEXT}.norm_eps": 1e-5,
        f"{TEXT}.causal": True,
        f"{TEXT}.pool": "end",
    }


def _resnet(weights: Weights) -> dict[str, Any]:
    positions = weights.shape("visual.attnpool.positional_embedding")[0]
    size = image_sizes(weights, positions, STEM_AND_STAGES)[f"{IMAGE}.image_size"]
    depths = [count_layers(weights, f"visual.layer{n}.{{n}}.") for n in range(1, 5)]
    return {
        f"{IMAGE}.name": "resnet",
        f"{IMAGE}.depths": tuple(depths),
        f"{IMAGE}.width": weights.shape("visual.layer1.0.conv1.weight")[0],
        f"{IMAGE}.output_dim": weights.shape("visual.attnpool.c_proj.weight")[0],
        f"{IMAGE}.image_size": size,
    }
