"""How much arithmetic a training step is, counted from its config; and chips' peaks."""

import math

from ml_collections import ConfigDict

# Dense bfloat16 TFLOP/s by a part of `device_kind`, from the makers' data sheets; the
# first that is found counts.
PEAK_TFLOPS = {
    "H200": 989.5,
    "H100 PCIe": 756.0,
    "H100": 989.5,
    "A100": 312.0,
    "A10G": 70.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


def peak_tflops(device_kind: str) -> float | None:
    """The dense bfloat16 peak of a chip, or None for one that is not listed."""
    return next(
        (peak for kind, peak in PEAK_TFLOPS.items() if kind in device_kind), None
    )


def transformer_macs(tokens: int, width: int, depth: int, mlp_ratio: float) -> float:
    """Multiplications of a stack of blocks on one sequence; no mask saves any."""
    projections = (4 + 2 * mlp_ratio) * tokens * width**2
    attention = 2 * tokens**2 * width
    return depth * (projections + attention)


def towers_macs(model: ConfigDict) -> float:
    """Multiplications of both towers on one pair, without output projections."""
    image, text = model.image, model.text
    patch = math.prod(image.patch_size)
    patches = math.prod(image.image_size) // patch
    return (
        patches * 3 * patch * image.width
        + transformer_macs(patches + 1, image.width, image.depth, image.mlp_ratio)
        + transformer_macs(text.context_length, text.width, text.depth, 4)
    )


def step_flops(config: ConfigDict) -> float:
    """Floating-point operations of one training step.

    Forward is two per multiplication of a matrix product, backward twice forward; the
    target network costs one forward pass of all but the predictors. Recomputed
    activations, norms, activations, embeddings and the optimizer are not counted.
    """
    model, batch = config.model, config.batch_size
    widths = model.image.width + model.text.width
    towers = batch * towers_macs(model)
    logits = batch**2 * model.embed_dim
    if "clipin" not in config.objectives:
        online = towers + batch * widths * model.embed_dim + logits
        return 2 * 3 * online
    clipin, shared = config.objectives.clipin, model.pre_projector
    projectors = shared * (widths + 2 * clipin.projection_dim)
    predictor = 2 * clipin.projection_dim * clipin.predictor_hidden_dim
    target = towers + batch * projectors
    heads = 2 * shared * model.embed_dim + 2 * len(clipin.terms) * predictor
    return 2 * (3 * (target + batch * heads + logits) + target)
