"""Maps the parameter names of ALBEF and BLIP onto our parameter tree."""

import re

import numpy as np

from tests.parity.names.nested import nested

# (pattern, replacement), applied in this order to every match.
RULES = (
    (r"^(\w+?)_m\.", r"\1."),  # momentum copies
    (r"^temp$", "objectives_momentum_contrastive/temperature/value"),
    (r"^itm_head\b", "objectives_matching/head"),
    (r"^vision_proj\b", "towers/image_projection"),
    (r"^text_proj\b", "towers/text_projection"),
    # the image tower, in both spellings
    (r"^(visual_encoder|vision_model)\b", "towers/image"),
    (r"\bembeddings\.(class|position|patch)_embedding\b", r"\1_embedding"),
    (r"\bcls_token$", "class_embedding"),
    (r"\bpos_embed$", "position_embedding"),
    (r"\b(patch_embed\.proj|patch_embedding)\b", "patch_embed"),
    (r"towers/image\.(blocks|encoder\.layers)\.(\d+)", r"towers/image/blocks_\2"),
    (r"/blocks_", "/transformer/blocks_"),
    (r"\b(norm|layer_norm)([12])\b", r"ln_\2"),
    (r"\b(attn|self_attn)\.", "attention."),
    (r"\battention\.(proj|projection)\b", "attention.out"),
    (r"\bmlp\.fc1\b", "mlp_in"),
    (r"\bmlp\.fc2\b", "mlp_out"),
    (r"towers/image\.(norm|post_layernorm)\b", "towers/image/ln_post"),
    # the text tower
    (r"^text_decoder\.bert\.(.*\.)attention\b", r"text_encoder.\1decoder_attention"),
    (r"^text_(encoder|decoder)(\.bert)?\b", "towers/text"),
    (r"\b(word|position|token_type)_embeddings\.weight", r"\1_embedding/embedding"),
    (r"\bencoder\.layer\.(\d+)", r"layers/blocks_\1"),
    (r"\bcrossattention\b", "cross_attention"),
    (r"layers/blocks_(\d+)\.attention\b", r"layers/blocks_\1/self_attention"),
    (r"attention\.(self|output)\b", "attention"),
    (r"attention\.dense\b", "attention/out"),
    (r"\bintermediate\.dense\b", "mlp_in"),
    (r"\boutput\.dense\b", "mlp_out"),
    (r"\boutput\.LayerNorm\b", "ln"),
    (r"\bLayerNorm\b", "ln"),
    (r"\bcls\.predictions(\.transform)?\b", "head"),
    (r"\bln((?:_\w+)?)\.weight$", r"ln\1/scale"),
    (r"\bweight$", "kernel"),
    (r"\.", "/"),
)


def our_path(name: str, text_depth: int = 0) -> str:
    """Returns our path of a PyTorch name.

    Args:
      name: of a parameter or of its momentum copy.
      text_depth: where the text tower is split: layers from this one on are fusion
        layers and count from 0. 0 for a tower that is not split.
    """
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    layer = re.search(r"towers/text/layers/blocks_(\d+)", name)
    if not layer or not text_depth:
        return name
    index = int(layer[1])
    part, first = ("text_layers", 0)
    if index >= text_depth:
        part, first = ("fusion_layers", text_depth)
    return name.replace(layer[0], f"towers/text/{part}/blocks_{index - first}")


def our_array(path: str, value: np.ndarray) -> np.ndarray:
    """Converts a PyTorch array to our layout."""
    if path.endswith("patch_embed/kernel"):
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    if path.endswith("image/class_embedding"):
        return value[0, 0]
    if path.endswith("image/position_embedding"):
        return value[0]
    return value.T if path.endswith("kernel") else value


def to_tree(arrays: dict[str, np.ndarray], text_depth: int = 0) -> dict:
    """Converts arrays by PyTorch names to a nested dict in our layout."""
    paths = {name: our_path(name, text_depth) for name in arrays}
    return nested((path, our_array(path, arrays[name])) for name, path in paths.items())
