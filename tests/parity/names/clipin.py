"""Maps the parameter names of CLIPin and open_clip onto our parameter tree."""

import re

import numpy as np

from tests.parity.names.nested import nested

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
MOMENTUM = re.compile(r"^(visual|TextEncoder|text_proj_\w+?)_m\b")


def our_path(name: str) -> str:
    """Returns our path of a PyTorch name, for layers that are not scanned."""
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
    """Converts a PyTorch array to our layout."""
    if name == "visual.conv1.weight":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    transposed = name.endswith(("weight", "in_proj_weight")) and value.ndim == 2
    return value.T if transposed and "token_embedding" not in name else value


def to_tree(arrays: dict[str, np.ndarray]) -> dict:
    """Converts arrays by CLIPin's names to a nested dict in our layout.

    Momentum copies have the paths of what they are copies of. The count of batches that
    a batch norm has seen is left out: we have no such array.
    """
    return nested(
        (our_path(without_momentum(name)), our_array(without_momentum(name), value))
        for name, value in arrays.items()
        if not name.endswith("num_batches_tracked")
    )


def is_momentum(name: str) -> bool:
    """Tells whether a name is that of a momentum copy."""
    return bool(MOMENTUM.match(name))


def without_momentum(name: str) -> str:
    """Returns the name without the mark of a momentum copy."""
    return MOMENTUM.sub(r"\1", name)


def open_clip_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames open_clip's arrays of the text tower as CLIPin does.

    open_clip has no prefix for the text tower.
    """
    text = ("positional_embedding", "token_embedding", "transformer.", "ln_final")
    return {
        f"TextEncoder.{k}" if k.startswith(text) else k: v for k, v in arrays.items()
    }
