"""Maps the parameter names of the golden files (PyTorch's) onto our parameter tree."""

import json
import re
from pathlib import Path

import numpy as np

HEADS = {
    "img_proj_contrast": "towers/image_projection",
    "text_proj_contrast": "towers/text_projection",
    "visual.img_proj_front": "towers/image_pre_projector",
    "text_proj_front": "towers/text_pre_projector",
    "visual.img_proj_noncontrast.0": "objectives_clipin/image_projector/norm",
    "visual.img_proj_noncontrast.2": "objectives_clipin/image_projector/out",
    "text_proj_noncontrast.0": "objectives_clipin/text_projector/norm",
    "text_proj_noncontrast.2": "objectives_clipin/text_projector/out",
} | {
    f"{torch}_layer{layer}": f"objectives_clipin/predictors_{ours}/{part}"
    for torch, ours in {
        "pred": "image_to_text",
        "text_pred": "text_to_image",
        "pred_self": "image_to_image",
        "text_pred_self": "text_to_text",
    }.items()
    for layer, part in {"1.0": "hidden", "1.1": "norm", "2": "out"}.items()
}
WHOLE = {
    "logit_scale": "objectives_contrastive/logit_scale",
    "lambda_combine": "objectives_contrastive/learned_weight/value",
    "lambda_selfalign": "objectives_clipin/learned_intra_weight/value",
    "visual.class_embedding": "towers/image/class_embedding",
    "visual.positional_embedding": "towers/image/position_embedding",
    "visual.conv1.weight": "towers/image/patch_embed/kernel",
    "visual.proj": "towers/image_projection/kernel",
    "TextEncoder.positional_embedding": "towers/text/position_embedding",
    "TextEncoder.token_embedding.weight": "towers/text/token_embedding/embedding",
    "text_projection": "towers/text_projection/kernel",
}
TOWERS = {"visual": "towers/image", "TextEncoder": "towers/text"}
BLOCK = {
    "attn.in_proj_weight": "attention/qkv/kernel",
    "attn.in_proj_bias": "attention/qkv/bias",
    "attn.out_proj.weight": "attention/out/kernel",
    "attn.out_proj.bias": "attention/out/bias",
    "mlp.c_fc.weight": "mlp_in/kernel",
    "mlp.c_fc.bias": "mlp_in/bias",
    "mlp.c_proj.weight": "mlp_out/kernel",
    "mlp.c_proj.bias": "mlp_out/bias",
}
LEAVES = {"running_mean": "mean", "running_var": "var", "bias": "bias"}


def load(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the meta data of a golden file."""
    with np.load(folder / name) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays under a prefix, which is taken off their names."""
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def our_path(name: str) -> str:
    """Our path of a PyTorch name, layers not scanned."""
    if name in WHOLE:
        return WHOLE[name]
    block = re.fullmatch(
        r"(visual|TextEncoder)\.transformer\.resblocks\.(\d+)\.(.+)", name
    )
    if block:
        tower, layer, rest = block.groups()
        norm = re.fullmatch(r"(ln_[12])\.(weight|bias)", rest)
        rest = f"{norm[1]}/{_norm_leaf(norm[2])}" if norm else BLOCK[rest]
        return f"{TOWERS[tower]}/transformer/blocks_{layer}/{rest}"
    module, _, leaf = name.rpartition(".")
    norm = re.fullmatch(r"(visual|TextEncoder)\.(ln_\w+)", module)
    if norm:
        return f"{TOWERS[norm[1]]}/{norm[2]}/{_norm_leaf(leaf)}"
    path = HEADS[module]
    if leaf == "weight":
        leaf = "scale" if path.endswith("norm") else "kernel"
    return f"{path}/{LEAVES.get(leaf, leaf)}"


def _norm_leaf(leaf: str) -> str:
    return "scale" if leaf == "weight" else "bias"


def our_array(name: str, value: np.ndarray) -> np.ndarray:
    """Turns a PyTorch array into our layout."""
    if name == "visual.conv1.weight":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    transposed = name.endswith(("weight", "in_proj_weight")) and value.ndim == 2
    return value.T if transposed and "token_embedding" not in name else value


def to_tree(arrays: dict[str, np.ndarray]) -> dict:
    """A nested dict in our layout of arrays under PyTorch names."""
    tree: dict = {}
    for name, value in arrays.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^(visual|TextEncoder|text_proj_\w+?)_m\b", r"\1", name)
        *folders, leaf = our_path(name).split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = our_array(name, value)
    return tree


def open_clip_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """open_clip's names of the text tower, which have no prefix, to CLIPin's."""
    text = ("positional_embedding", "token_embedding", "transformer.", "ln_final")
    return {
        f"TextEncoder.{k}" if k.startswith(text) else k: v for k, v in arrays.items()
    }
