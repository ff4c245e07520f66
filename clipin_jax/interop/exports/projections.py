"""Linear layers in a row as one: the pre-projector and the projection after it."""

from collections.abc import Mapping, Sequence

import numpy as np

from clipin_jax.errors import ClipinError

Arrays = dict[str, np.ndarray]
_TOLERANCE = 2e-6  # of the norm of outputs; float32 has rounding errors of 1e-7


def merge_layers(
    arrays: Mapping[str, np.ndarray], layers: Sequence[str], into: str
) -> Arrays:
    """Replaces linear layers that follow each other by one.

    A single layer is left as it is, bit for bit.

    Args:
      arrays: by path.
      layers: paths of layers, from input to output; absent ones are skipped.
      into: path of the one.
    """
    layers = [layer for layer in layers if f"{layer}/kernel" in arrays]
    merged = dict(arrays)
    if len(layers) < 2:
        return merged
    kernel, bias = np.eye(len(arrays[f"{layers[0]}/kernel"])), np.zeros(())
    for layer in layers:
        own = merged.pop(f"{layer}/kernel").astype(np.float64)
        kernel, bias = kernel @ own, _through(bias, own)
        bias = bias + merged.pop(f"{layer}/bias", np.zeros(())).astype(np.float64)
    dtype = arrays[f"{layers[-1]}/kernel"].dtype
    merged[f"{into}/kernel"] = kernel.astype(dtype)
    merged[f"{into}/bias"] = bias.astype(dtype)
    return merged


def _through(bias: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return bias @ kernel if bias.ndim else np.zeros(kernel.shape[1])


def move_bias(
    arrays: Mapping[str, np.ndarray], layer: str, norm: str, what: str
) -> Arrays:
    """Moves the bias of a linear layer into that of the norm before it.

    Outputs stay the same: a bias c after a kernel K is a bias d before it with d K = c.
    There is such a d where the outputs of K reach c, as they do with at least as many
    inputs as outputs.

    Args:
      arrays: by path.
      layer: path of the linear layer.
      norm: path of the norm, whose output goes into this layer alone.
      what: the format, for the message.

    Raises:
      ClipinError: no bias of the norm gives the same outputs.
    """
    moved = dict(arrays)
    bias = moved.pop(f"{layer}/bias", None)
    if bias is None or not bias.any():
        return moved
    kernel = moved[f"{layer}/kernel"].astype(np.float64)
    bias, old = bias.astype(np.float64), moved[f"{norm}/bias"].astype(np.float64)
    shift = np.linalg.lstsq(kernel.T, bias, rcond=None)[0]
    new = (old + shift).astype(moved[f"{norm}/bias"].dtype)
    scale = moved[f"{norm}/scale"].astype(np.float64)
    size = np.linalg.norm(scale[:, None] * kernel)  # of outputs, for a normed input
    error = np.linalg.norm((new.astype(np.float64) - old) @ kernel - bias) / size
    if not error < _TOLERANCE:
        raise ClipinError(
            f"{what} cannot hold this model: {layer} has a bias, for which it has no "
            f"place, and {norm} cannot take it over (features would differ by "
            f"{error:.0e})"
        )
    moved[f"{norm}/bias"] = new
    return moved


def merge_projection(arrays: Mapping[str, np.ndarray], modality: str) -> Arrays:
    """Merges the pre-projector of a tower into the projection after it, if any."""
    projection = f"towers/{modality}_projection"
    layers = [f"towers/{modality}_pre_projector", projection]
    return merge_layers(arrays, layers, projection)
