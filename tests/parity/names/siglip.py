"""Maps the parameter names of transformers' SigLIP onto our parameter tree."""

import re

import numpy as np

from tests.parity.names.nested import nested

WHOLE = {
    "logit_scale": "objectives_sigmoid/logit_scale",
    "logit_bias": "objectives_sigmoid/logit_bias",
    "text_model.embeddings.token_embedding.weight": (
        "towers/text/token_embedding/embedding"
    ),
    "text_model.embeddings.position_embedding.weight": "towers/text/position_embedding",
    "vision_model.embeddings.position_embedding.weight": (
        "towers/image/position_embedding"
    ),
    "vision_model.head.probe": "towers/image/pool/query",
}
MODULES = {
    "text_model.final_layer_norm": "towers/text/ln_final",
    "text_model.head": "towers/text_projection",
    "vision_model.embeddings.patch_embedding": "towers/image/patch_embed",
    "vision_model.post_layernorm": "towers/image/ln_post",
    "vision_model.head.attention.out_proj": "towers/image/pool/out",
    "vision_model.head.layernorm": "towers/image/pool/ln",
    "vision_model.head.mlp.fc1": "towers/image/pool/mlp_in",
    "vision_model.head.mlp.fc2": "towers/image/pool/mlp_out",
}
BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.qkv": "attention/qkv",
    "self_attn.out_proj": "attention/out",
    "mlp.fc1": "mlp_in",
    "mlp.fc2": "mlp_out",
}
TOWERS = {"vision_model": "towers/image", "text_model": "towers/text"}
POOLED = ("query_in", "key_in", "value_in")
POOLING = re.compile(r"vision_model\.head\.attention\.in_proj_(weight|bias)")


def to_tree(arrays: dict[str, np.ndarray]) -> dict:
    """Converts arrays by transformers' names to a nested dict in our layout."""
    return nested(
        (_path(name), _array(name, value)) for name, value in _regrouped(arrays).items()
    )


def _regrouped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Joins query, key and value of each block, and splits those of the pooling."""
    grouped = {}
    for name, value in arrays.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = (arrays[name.replace("q_proj", f"{x}_proj")] for x in "qkv")
            grouped[name.replace("q_proj", "qkv")] = np.concatenate([*parts])
        elif POOLING.fullmatch(name):
            leaf = name.rpartition("_")[2]
            for part, x in zip(POOLED, np.split(value, 3), strict=True):
                grouped[f"pool.{part}.{leaf}"] = x
        else:
            grouped[name] = value
    return grouped


def _path(name: str) -> str:
    if name in WHOLE:
        return WHOLE[name]
    module, _, leaf = name.rpartition(".")
    block = re.fullmatch(r"(\w+)\.encoder\.layers\.(\d+)\.(.+)", module)
    if module.startswith("pool."):
        path = f"towers/image/{module.replace('.', '/')}"
    elif block:
        tower, layer, part = block.groups()
        path = f"{TOWERS[tower]}/transformer/blocks_{layer}/{BLOCK[part]}"
    else:
        path = MODULES[module]
    norm = path.rpartition("/")[2].startswith("ln")
    return f"{path}/{leaf if leaf == 'bias' else 'scale' if norm else 'kernel'}"


def _array(name: str, value: np.ndarray) -> np.ndarray:
    if name in ("logit_scale", "logit_bias", "vision_model.head.probe"):
        return value[0]
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    table = name.endswith("embedding.weight")
    return value.T if value.ndim == 2 and not table else value
