"""Computes the arithmetic of a training step from its config."""

import math

from ml_collections import ConfigDict


def transformer_macs(tokens: int, width: int, depth: int, mlp_ratio: float) -> float:
    """Returns the multiplications of a stack of blocks on one sequence."""
    projections = (4 + 2 * mlp_ratio) * tokens * width**2
    attention = 2 * tokens**2 * width
    return depth * (projections + attention)


def towers_macs(model: ConfigDict) -> float:
    """Returns the multiplications of both towers on one pair, without projections."""
    image, text = model.image, model.text
    patch = math.prod(image.patch_size)
    patches = math.prod(image.image_size) // patch
    return (
        patches * 3 * patch * image.width
        + transformer_macs(patches + 1, image.width, image.depth, image.mlp_ratio)
        + transformer_macs(text.context_length, text.width, text.depth, 4)
    )


def step_flops(config: ConfigDict) -> float:
    """Returns the floating-point operations of one training step.

    The forward pass has two operations per multiplication of a matrix product, the
    backward pass four. The target network adds a forward pass without predictors.
    Recomputation, norms, activations, embeddings and the optimizer are not counted.
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
