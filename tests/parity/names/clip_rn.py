"""Maps open_clip's parameter names of the ModifiedResNet onto our image tower."""

import re

import numpy as np

from tests.parity.names import clipin
from tests.parity.names.clipin import open_clip_names
from tests.parity.names.nested import nested

LEAVES = {
    "weight": "scale",
    "bias": "bias",
    "running_mean": "mean",
    "running_var": "var",
}
LAYERS = {"1": "reduce", "2": "spatial", "3": "expand"}
POOL = {"q_proj": "query_in", "k_proj": "key_in", "v_proj": "value_in", "c_proj": "out"}


def our_image_path(name: str) -> str:
    """Returns our path in the image tower, of a name without its `visual.`."""
    *modules, leaf = name.split(".")
    if modules[0] == "attnpool":
        if leaf == "positional_embedding":
            return "pool/position_embedding"
        return f"pool/{POOL[modules[1]]}/{'kernel' if leaf == 'weight' else 'bias'}"
    block = ""
    if modules[0].startswith("layer"):
        block = f"stage_{int(modules[0][5:]) - 1}_block_{modules[1]}/"
        modules = modules[2:]
    if modules[0] == "downsample":
        layer, kind = "shortcut", ("conv", "norm")[int(modules[1])]
    else:
        matched = re.fullmatch(r"(conv|bn)(\d)", modules[0])
        assert matched, name
        kind = {"conv": "conv", "bn": "norm"}[matched[1]]
        layer = LAYERS[matched[2]] if block else f"stem_{int(matched[2]) - 1}"
    leaf = "kernel" if kind == "conv" else LEAVES[leaf]
    return f"{block}{layer}/{kind}/{leaf}"


def our_image_array(value: np.ndarray, path: str) -> np.ndarray:
    """Converts a PyTorch array to our layout: kernels [H, W, in, out]."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if path.endswith("kernel") else value


def to_tree(arrays: dict[str, np.ndarray]) -> dict:
    """Converts arrays by open_clip's names to a nested dict in our layout.

    The count of batches that a batch norm has seen is left out: we have no such array.
    """
    arrays = {k: v for k, v in arrays.items() if "num_batches_tracked" not in k}
    image = {
        k.removeprefix("visual."): v
        for k, v in arrays.items()
        if k.startswith("visual.")
    }
    rest = {k: v for k, v in arrays.items() if not k.startswith("visual.")}
    tree = clipin.to_tree(open_clip_names(rest))
    paths = {name: our_image_path(name) for name in image}
    tower = nested(
        (path, our_image_array(image[name], path)) for name, path in paths.items()
    )
    tree.setdefault("towers", {})["image"] = tower
    return tree
