"""Records and shifts the attention weights of layers, for explanations."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.types import Array

# The collections of variables that shift and record attention, see `attention_tap`.
TAPS = "perturbations"
RECORDED = "intermediates"


def attention_tap(
    module: nn.Module, kind: str, shape: tuple[int, ...]
) -> Callable[[Array], Array] | None:
    """Returns a function that records and shifts the attention weights of a layer.

    To differentiate by the weights of a layer, give `apply` zeros of their shape, as
    variable `kind` in the collection `TAPS` under the path of the layer. They
    are added to the weights, so that the gradient by them is that by the weights. The
    weights are recorded in the collection `RECORDED`, if that is mutable.
    Where `TAPS` itself is mutable, every layer writes its zeros there: the
    list of all layers with a tap.

    Args:
      module: the layer.
      kind: `self` or `cross`: what the layer attends to.
      shape: of the weights.

    Returns:
      Weights to weights; None where the collection has no variable for this layer.
    """
    listing = module.is_mutable_collection(TAPS) and not module.is_initializing()
    if listing:
        module.put_variable(TAPS, kind, jnp.zeros(shape))
    if not module.has_variable(TAPS, kind):
        return None

    def tap(weights: Array) -> Array:
        weights = weights + module.get_variable(TAPS, kind).astype(weights.dtype)
        module.sow(RECORDED, kind, weights)
        return weights

    return tap
