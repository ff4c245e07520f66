"""Arrays to scalars: the formulas, without parameters, devices or modules.

Under `jit` with a batch split over devices these are losses of the global batch: the
partitioner adds the communication.
"""

import math

import jax
import jax.numpy as jnp
import optax

from clipin_jax.types import Array


def without(logits: Array, mask: Array | None) -> Array:
    """Leaves answers out: no softmax gives them a share, no sigmoid believes them.

    Args:
      logits: [...] float.
      mask: [...] bool, the answers that do not exist; None for none.

    Returns:
      [...], a large negative number where the mask is true. It is finite, so that a
      target of zero times its logarithm is zero, and half of the largest, so that what
      a softmax subtracts leaves it so.
    """
    if mask is None:
        return logits
    return jnp.where(mask, jnp.finfo(logits.dtype).min / 2, logits)


def softmax_contrastive(
    logits: Array, positives: Array | None = None, label_smoothing: float = 0.0
) -> Array:
    """Symmetric InfoNCE, the mean of both directions (CLIP, arXiv 2103.00020, fig. 3).

    Where a row has several right answers, each should get the same probability (the
    targets of UniCL, arXiv 2204.03610, eq. 2 and 3).

    Args:
      logits: [B, B] float; row i holds image i against every text, pairs on the
        diagonal.
      positives: [B, B] bool, the right answers, the diagonal among them; None for the
        diagonal alone.
      label_smoothing: share of the right answer that goes to all answers alike.

    Returns:
      Scalar; ln B for a model that knows nothing.
    """
    if positives is None and not label_smoothing:
        return (_find_diagonal(logits) + _find_diagonal(logits.T)) / 2
    right = jnp.eye(len(logits), dtype=bool) if positives is None else positives

    def answer(axis: int) -> Array:
        found = jnp.mean(logits, axis, where=right)
        if not label_smoothing:
            return found
        given = logits > jnp.finfo(logits.dtype).min / 4  # those not left out
        spread = jnp.mean(logits, axis, where=given)
        return (1 - label_smoothing) * found + label_smoothing * spread

    # Not against a distribution: that were one more float for every pair.
    image_to_text, text_to_image = (
        jax.nn.logsumexp(logits, axis) - answer(axis) for axis in (1, 0)
    )
    return (image_to_text.mean() + text_to_image.mean()) / 2


def _find_diagonal(logits: Array) -> Array:
    """Cross-entropy of the diagonal among each row, the mean over rows."""
    labels = jnp.arange(logits.shape[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def sigmoid_contrastive(logits: Array, positives: Array | None = None) -> Array:
    """Every pair judged on its own: does it belong together (arXiv 2303.15343, eq. 1)?

    Args:
      logits: [B, B] float; row i holds image i against every text, pairs on the
        diagonal.
      positives: [B, B] bool, what belongs together, the diagonal among it; None for
        the diagonal alone.

    Returns:
      Scalar, the sum over all pairs divided by B (not by B squared); B ln 2 for logits
      of zero.
    """
    size = logits.shape[0]
    right = jnp.eye(size, dtype=bool) if positives is None else positives
    signs = 2 * right.astype(logits.dtype) - 1  # 1 where right, else -1
    return jnp.sum(jax.nn.softplus(-signs * logits)) / size


def info_nce(queries: Array, keys: Array, temperature: Array | float) -> Array:
    """Cross-entropy of finding the key of each query among all keys, one way.

    The contrast of MoCo v3 (arXiv 2104.02057, algorithm 1) without its factor of twice
    the temperature.

    Args:
      queries: [B, D] of unit norm.
      keys: [B, D] of unit norm; row i belongs to query i.
      temperature: positive.

    Returns:
      Scalar; ln B for a model that knows nothing.
    """
    return _find_diagonal(queries @ keys.T / temperature)


def nt_xent(first: Array, second: Array, temperature: Array | float) -> Array:
    """Finding the other view of each image among the images of both views.

    The normalised temperature-scaled cross-entropy of SimCLR (arXiv 2002.05709, eq. 1):
    2B queries, each with one right answer and 2B - 2 wrong ones.

    Args:
      first: [B, D] of unit norm.
      second: [B, D] of unit norm; row i shows what row i of `first` shows.
      temperature: positive.

    Returns:
      Scalar; ln(2B - 1) for a model that knows nothing.
    """
    rows = first.shape[0]
    both = jnp.concatenate([first, second])
    logits = both @ both.T / temperature
    logits = jnp.where(jnp.eye(2 * rows, dtype=bool), -jnp.inf, logits)
    labels = jnp.roll(jnp.arange(2 * rows), rows)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


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


def soft_cross_entropy(
    logits: Array, targets: Array, mask: Array | None = None
) -> Array:
    """Cross-entropy against distributions, the mean over positions.

    The distillation term of ALBEF (arXiv 2107.07651, eq. 6 and 7).

    Args:
      logits: [..., K] of any float dtype.
      targets: [..., K], each row sums to one.
      mask: [...] bool, the positions that count; None for all.

    Returns:
      Scalar in at least float32; 0 where no position counts.
    """
    losses = -jnp.sum(targets * _log_softmax(logits), axis=-1)
    return masked_mean(losses, jnp.ones_like(losses, bool) if mask is None else mask)


def entropy_of_mean(logits: Array) -> Array:
    """Entropy of the mean of the rows' distributions: how many classes a batch uses.

    Computed from logarithms, so that a class that no row uses has a finite gradient.

    Args:
      logits: [B, K] of any float dtype.

    Returns:
      Scalar in at least float32; ln K if all classes are used alike, and never more
      than the mean entropy of the rows plus ln B.
    """
    mean = jax.nn.logsumexp(_log_softmax(logits), axis=0) - math.log(logits.shape[0])
    return -jnp.sum(jnp.exp(mean) * mean)


def token_cross_entropy(
    logits: Array, labels: Array, mask: Array, label_smoothing: float = 0.0
) -> Array:
    """Cross-entropy of predicted ids, the mean over the positions that count.

    With smoothing s the target is 1 - s on the label plus s/V on every id, the label
    included (arXiv 1512.00567, section 7; PyTorch's convention).

    Args:
      logits: [..., L, V] of any float dtype.
      labels: [..., L] int; what stands where `mask` is false is not read.
      mask: [..., L] bool.
      label_smoothing: s.

    Returns:
      Scalar in at least float32; 0 where no position counts.
    """
    scores = _log_softmax(logits)
    kept = jnp.where(mask, labels, 0)[..., None]
    losses = -jnp.take_along_axis(scores, kept, axis=-1)[..., 0]
    if label_smoothing:
        uniform = -scores.mean(axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return masked_mean(losses, mask)


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean of the values where the mask is true; 0 where it is nowhere true.

    Args:
      values: [...] float.
      mask: [...] bool.
    """
    total = jnp.sum(jnp.where(mask, values, 0))
    return total / jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)


def _log_softmax(logits: Array) -> Array:
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(wide)


def diagonal_accuracy(logits: Array) -> Array:
    """The share of rows whose largest entry is on the diagonal.

    Args:
      logits: [B, B] float.
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == jnp.arange(logits.shape[0]))
