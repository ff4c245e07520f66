"""Scaled dot-product attention on any device, with masks, dropout and taps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from clipin_jax.models.layers import at_least_float32
from clipin_jax.types import Array


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool = False,
    mask: Array | None = None,
    drop: Callable[[Array], Array] | None = None,
    tap: Callable[[Array], Array] | None = None,
    cudnn: bool = False,
) -> Array:
    """Computes scaled dot-product attention, with the softmax in at least float32.

    Args:
      query: [B, N, heads, D/heads].
      key, value: [B, M, heads, D/heads].
      causal: whether position n attends only to positions up to n.
      mask: bool that broadcasts to [B, heads, N, M], true where query n attends to key
        m. The output of a query without any key is finite.
      drop: dropout of the attention weights [B, heads, N, M].
      tap: applied to the weights before dropout, see `taps.attention_tap`.
      cudnn: whether to call cuDNN's kernel, where there is no mask, dropout or tap.

    Returns:
      [B, N, heads, D/heads].
    """
    query = query * query.shape[-1] ** -0.5  # cheaper than to scale the logits
    # jax's function takes the softmax in float32, too coarse for comparisons in
    # float64, and has no dropout.
    if query.dtype != jnp.float64 and drop is None and tap is None:
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            scale=1.0,
            is_causal=causal,
            implementation="cudnn" if cudnn else None,
        )
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key)
    logits = logits.astype(at_least_float32(logits.dtype))
    masked = jnp.finfo(logits.dtype).min
    if causal:
        logits = jnp.where(jnp.tri(*logits.shape[2:], dtype=bool), logits, masked)
    if mask is not None:
        logits = jnp.where(mask, logits, masked)
    weights = jax.nn.softmax(logits)
    if tap is not None:
        weights = tap(weights)
    if drop is not None:
        weights = drop(weights)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(value.dtype), value)
