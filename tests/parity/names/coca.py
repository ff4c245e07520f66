"""Maps open_clip's parameter names of CoCa onto our parameter tree."""

import re

import numpy as np

from tests.parity.names.clipin import BLOCK, our_array, our_path
from tests.parity.names.nested import nested

DECODER = {"resblocks": "self", "cross_attn": "cross"}
NORMS = {"ln_q": "ln_query", "ln_k": "ln_key", "ln_1_kv": "ln_context"}
ATTENTION = {"q": "query_in", "k": "key_in", "v": "value_in"}
WHOLE = {
    "text.cls_emb": "towers/text/class_embedding",
    "text.text_projection": "towers/text_projection/kernel",
    "text_decoder.text_projection": "towers/text/vocabulary/kernel",
    "text_decoder.ln_final.weight": "towers/text/ln_decoder/scale",
    "text_decoder.ln_final.bias": "towers/text/ln_decoder/bias",
    "visual.attn_pool.query": "towers/image/caption_pool/query",
}


def to_tree(arrays: dict[str, np.ndarray]) -> dict:
    """Converts arrays by open_clip's names to a nested dict in our layout."""
    return nested(
        (_path(name), value if name in WHOLE else our_array(_clipin_name(name), value))
        for name, value in _split_attention(arrays).items()
    )


def _split_attention(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits the fused projection of every cross-attention into query, key, value."""
    parts = {}
    for name, value in arrays.items():
        fused = re.fullmatch(
            r"(.+(?:cross_attn\.\d+|attn_pool)\.attn)\.in_proj_(.+)", name
        )
        if not fused:
            parts[name] = value
            continue
        for letter, part in zip("qkv", np.split(value, 3), strict=True):
            parts[f"{fused[1]}.{letter}_proj_{fused[2]}"] = part
    return parts


def _path(name: str) -> str:
    if name in WHOLE:
        return WHOLE[name]
    block = re.fullmatch(r"text_decoder\.(resblocks|cross_attn)\.(\d+)\.(.+)", name)
    if block:
        kind, layer, rest = block.groups()
        return f"towers/text/decoder/blocks_{layer}/{DECODER[kind]}/{_leaf(rest)}"
    if name.startswith("visual.attn_pool."):
        return f"towers/image/caption_pool/{_leaf(name.split('.', 2)[2])}"
    return our_path(_clipin_name(name))


def _clipin_name(name: str) -> str:
    return re.sub(r"^text\.", "TextEncoder.", name)


def _leaf(rest: str) -> str:
    part = re.fullmatch(r"attn\.([qkv])_proj_(weight|bias)", rest)
    if part:
        leaf = "kernel" if part[2] == "weight" else "bias"
        return f"attention/{ATTENTION[part[1]]}/{leaf}"
    norm = re.fullmatch(r"(ln_\w+)\.(weight|bias)", rest)
    if norm:
        leaf = "scale" if norm[2] == "weight" else "bias"
        return f"{NORMS.get(norm[1], norm[1])}/{leaf}"
    return BLOCK[rest]
