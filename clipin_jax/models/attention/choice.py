"""Self-attention by the kernel that suits the devices, the dtype and the shape."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from clipin_jax.models.attention import fused
from clipin_jax.models.attention.plain import attend
from clipin_jax.types import Array

# What `model.attention` may be, see `choose_kernel`.
IMPLEMENTATIONS = ("auto", "plain", "fused", "cudnn")


def self_attend(
    qkv: Array,
    bias: Array,
    num_heads: int,
    implementation: str,
    *,
    causal: bool,
    mask: Array | None = None,
    tap: Callable[[Array], Array] | None = None,
) -> Array:
    """Computes multi-head self-attention from queries, keys and values in one matrix.

    Args:
      qkv: [B, N, 3 D], queries, keys and values side by side, without their bias.
      bias: [3 D].
      num_heads: divides D.
      implementation: one of `IMPLEMENTATIONS`, see `choose_kernel`; with a tap the
        plain one runs.
      causal, mask, tap: as in `attend`.

    Returns:
      [B, N, D].
    """
    batch, length, width = qkv.shape
    kernel = "plain"
    if tap is None:
        kernel = choose_kernel(implementation, qkv, num_heads, mask)
    if kernel == "fused":
        return fused.fused_attention(qkv, bias, num_heads, causal=causal, mask=mask)
    heads = (batch, length, num_heads, width // 3 // num_heads)
    query, key, value = (y.reshape(heads) for y in jnp.split(qkv + bias, 3, axis=-1))
    cudnn = kernel == "cudnn"
    y = attend(query, key, value, causal=causal, mask=mask, tap=tap, cudnn=cudnn)
    return y.reshape(batch, length, width // 3)


def choose_kernel(
    implementation: str, qkv: Array, num_heads: int, mask: Array | None = None
) -> str:
    """Returns `fused`, `cudnn` or `plain`: what computes self-attention.

    `fused` is the kernel for TPUs, `cudnn` that for GPUs since Ampere. `auto` allows
    both. Where the devices, the dtype, the shape or the mask are not made for it, the
    plain path runs: a run that was trained with a kernel can be evaluated anywhere.

    Args:
      implementation: one of `IMPLEMENTATIONS`.
      qkv: [B, N, 3 D].
      num_heads: divides D.
      mask: as in `attend`; `fused` takes one of positions, [B, 1, 1, N].
    """
    platform = platform_of_devices()
    if implementation in ("auto", "fused"):
        on_device = platform == "tpu" or fused.is_interpreted()
        if on_device and fused.fits(qkv, mask):
            return "fused"
    if implementation in ("auto", "cudnn") and platform == "gpu" and mask is None:
        size = qkv.shape[2] // 3 // num_heads
        fits = size <= 128 and size % 8 == 0 and qkv.dtype in ("bfloat16", "float16")
        if fits and _is_ampere_or_later():
            return "cudnn"
    return "plain"


def platform_of_devices() -> str:
    """Returns the platform for which the current program is traced, such as `tpu`."""
    # The mesh knows its devices even if they are not here, as when a program is
    # compiled on a CPU for a TPU. `jax.lax.platform_dependent` would choose while
    # lowering, but its gradient saves what the branches not taken would need too.
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.abstract_device is not None:
        return mesh.abstract_device.platform
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return getattr(device, "platform", device) or jax.default_backend()


def _is_ampere_or_later() -> bool:
    capability = getattr(jax.local_devices()[0], "compute_capability", "")
    major = str(capability).partition(".")[0]  # no number on GPUs without CUDA
    return major.isdigit() and int(major) >= 8
