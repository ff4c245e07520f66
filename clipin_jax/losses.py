"""Arrays to scalars: the formulas, without parameters, devices or modules.

Under `jit` with a batch split over devices these are losses of the global batch: the
partitioner adds the communication.
"""

import jax.numpy as jnp
import optax

from clipin_jax.types import Array


def unit(x: Array) -> Array:
    """Divides the last axis by its 2-norm, in at least float32.

    Args:
      x: [..., D] of any float dtype.

    Returns:
      [..., D] float32 (float64 for float64). A zero vector stays zero, with a finite
      gradient: the norm is floored at 1e-12 under the root.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-24))


def softmax_contrastive(logits: Array) -> Array:
    """Symmetric InfoNCE, the mean of both directions (CLIP, arXiv 2103.00020, fig. 3).

    Args:
      logits: [B, B] float; row i holds image i against every text, pairs on the
        diagonal.

    Returns:
      Scalar; ln B for a model that knows nothing.
    """
    labels = jnp.arange(logits.shape[0])
    image_to_text = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    text_to_image = optax.softmax_cross_entropy_with_integer_labels(logits.T, labels)
    return (image_to_text.mean() + text_to_image.mean()) / 2


def cosine_regression(prediction: Array, target: Array) -> Array:
    """One minus the mean cosine of matching rows.

    Half of BYOL's squared distance (arXiv 2006.07733, eq. 2); the sum over two
    modalities is one term of CLIPin (arXiv 2508.06434).

    Args:
      prediction: [B, D] of unit norm.
      target: [B, D] of unit norm.

    Returns:
      Scalar in [0, 2]; 1 for unrelated directions.
    """
    return 1 - jnp.mean(jnp.sum(prediction * target, axis=-1))


def diagonal_accuracy(logits: Array) -> Array:
    """The share of rows whose largest entry is on the diagonal.

    Args:
      logits: [B, B] float.
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == jnp.arange(logits.shape[0]))
