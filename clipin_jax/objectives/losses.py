"""Loss functions of arrays, without parameters or modules.

Under `jit` with a batch split over devices these are losses of the global batch: the
partitioner adds the communication.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipin_jax.types import Array


class Mean(NamedTuple):
    """A mean as its two sums: those of parts of a batch add up to those of the batch.

    Attributes:
      total: scalar float, the sum of the values.
      number: scalar int, how many they are.
    """

    total: Array
    number: Array

    @classmethod
    def of(cls, values: Array, mask: Array) -> "Mean":
        """Returns the mean of the values where the mask is true.

        Args:
          values: [...] float.
          mask: [...] bool.
        """
        return cls(jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask))

    @property
    def value(self) -> Array:
        """The mean; 0 of no values."""
        return self.total / jnp.maximum(self.number, 1).astype(self.total.dtype)


def mask_logits(logits: Array, mask: Array | None) -> Array:
    """Returns the logits with a large negative number where the mask is true.

    Args:
      logits: [...] float.
      mask: [...] bool; None for no mask.

    Returns:
      [...], of probability 0 where masked, under a softmax and under a sigmoid.
    """
    if mask is None:
        return logits
    # Finite, so that a label of 0 times its logarithm is 0; and half of the largest,
    # so that it stays finite when a softmax subtracts the maximum.
    return jnp.where(mask, jnp.finfo(logits.dtype).min / 2, logits)


def softmax_contrastive(
    logits: Array, positives: Array | None = None, label_smoothing: float = 0.0
) -> Array:
    """Returns symmetric InfoNCE, the mean of both directions (CLIP, arXiv 2103.00020).

    See figure 3 there. Labels are uniform over the positives of a row (UniCL, arXiv
    2204.03610, eq. 2 and 3).

    Args:
      logits: [B, B] float; row i holds image i against every text, pairs on the
        diagonal.
      positives: [B, B] bool, including the diagonal; None for the diagonal only.
      label_smoothing: share of the label that is uniform over all candidates that are
        not masked.

    Returns:
      Scalar; ln B for logits of zero.
    """
    if positives is None and not label_smoothing:
        return (_diagonal_cross_entropy(logits) + _diagonal_cross_entropy(logits.T)) / 2
    is_positive = jnp.eye(len(logits), dtype=bool) if positives is None else positives

    def expected_logit(axis: int) -> Array:
        of_positives = jnp.mean(logits, axis, where=is_positive)
        if not label_smoothing:
            return of_positives
        unmasked = logits > jnp.finfo(logits.dtype).min / 4
        of_all = jnp.mean(logits, axis, where=unmasked)
        return (1 - label_smoothing) * of_positives + label_smoothing * of_all

    # An array of labels would need one more float for every pair.
    image_to_text, text_to_image = (
        jax.nn.logsumexp(logits, axis) - expected_logit(axis) for axis in (1, 0)
    )
    return (image_to_text.mean() + text_to_image.mean()) / 2


def _diagonal_cross_entropy(logits: Array) -> Array:
    """Returns the cross-entropy of the diagonal in each row, the mean over rows."""
    labels = jnp.arange(logits.shape[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def sigmoid_contrastive(logits: Array, positives: Array | None = None) -> Array:
    """Returns the binary cross-entropy of all pairs (SigLIP, arXiv 2303.15343, eq. 1).

    Args:
      logits: [B, B] float; row i holds image i against every text, pairs on the
        diagonal.
      positives: [B, B] bool, including the diagonal; None for the diagonal only.

    Returns:
      Scalar, the sum over all pairs divided by B (not by B squared); B ln 2 for logits
      of zero.
    """
    size = logits.shape[0]
    is_positive = jnp.eye(size, dtype=bool) if positives is None else positives
    signs = 2 * is_positive.astype(logits.dtype) - 1  # 1 for positives, else -1
    return jnp.sum(jax.nn.softplus(-signs * logits)) / size


def info_nce(queries: Array, keys: Array, temperature: Array | float) -> Array:
    """Returns the cross-entropy of the key of each query among all keys.

    This is the loss of MoCo v3 (arXiv 2104.02057, algorithm 1) without its factor of
    twice the temperature.

    Args:
      queries: [B, D] of unit norm.
      keys: [B, D] of unit norm; row i belongs to query i.
      temperature: positive.

    Returns:
      Scalar; ln B where all rows are equal.
    """
    return _diagonal_cross_entropy(queries @ keys.T / temperature)


def nt_xent(first: Array, second: Array, temperature: Array | float) -> Array:
    """Returns the cross-entropy of the other view of each image among all views.

    This is the NT-Xent loss of SimCLR (arXiv 2002.05709, eq. 1): 2B queries, each with
    one positive and 2B - 2 negatives.

    Args:
      first: [B, D] of unit norm.
      second: [B, D] of unit norm; row i is the other view of row i of `first`.
      temperature: positive.

    Returns:
      Scalar; ln(2B - 1) where all rows are equal.
    """
    rows = first.shape[0]
    both = jnp.concatenate([first, second])
    logits = both @ both.T / temperature
    logits = jnp.where(jnp.eye(2 * rows, dtype=bool), -jnp.inf, logits)
    labels = jnp.roll(jnp.arange(2 * rows), rows)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def cosine_regression(prediction: Array, target: Array) -> Array:
    """Returns one minus the mean cosine of matching rows.

    This is half of BYOL's squared distance (arXiv 2006.07733, eq. 2). The sum over two
    modalities is one term of CLIPin (arXiv 2508.06434).

    Args:
      prediction: [B, D] of unit norm.
      target: [B, D] of unit norm.

    Returns:
      Scalar in [0, 2]; 1 for unrelated directions.
    """
    return 1 - jnp.mean(jnp.sum(prediction * target, axis=-1))


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """Returns the cross-entropy with soft labels, the mean of `soft_cross_entropies`.

    Args:
      logits: [..., K] of any float dtype.
      targets: [..., K], each row sums to one.
    """
    return soft_cross_entropies(logits, targets).mean()


def soft_cross_entropies(logits: Array, targets: Array) -> Array:
    """Returns the cross-entropy with soft labels of every position.

    This is the distillation term of ALBEF (arXiv 2107.07651, eq. 6 and 7).

    Args:
      logits: [..., K] of any float dtype.
      targets: [..., K], each row sums to one.

    Returns:
      [...] in at least float32.
    """
    return -jnp.sum(targets * _log_softmax(logits), axis=-1)


def entropy_of_mean(logits: Array) -> Array:
    """Returns the entropy of the mean of the rows' distributions.

    It is computed from logarithms, so that a class of probability 0 has a finite
    gradient.

    Args:
      logits: [B, K] of any float dtype.

    Returns:
      Scalar in at least float32; ln K if all classes are equally likely on average,
      and at most ln B more than the mean entropy of the rows.
    """
    mean = jax.nn.logsumexp(_log_softmax(logits), axis=0) - math.log(logits.shape[0])
    return -jnp.sum(jnp.exp(mean) * mean)


def token_cross_entropies(
    logits: Array, labels: Array, label_smoothing: float = 0.0
) -> Array:
    """Returns the cross-entropy of the id at every position.

    With smoothing s the target is 1 - s on the label plus s/V on every id, including
    the label (arXiv 1512.00567, section 7; PyTorch's convention).

    Args:
      logits: [..., L, V] of any float dtype.
      labels: [..., L] int; without a meaning, but finite, where negative.
      label_smoothing: s.

    Returns:
      [..., L] in at least float32.
    """
    scores = _log_softmax(logits)
    ids = jnp.maximum(labels, 0)[..., None]
    losses = -jnp.take_along_axis(scores, ids, axis=-1)[..., 0]
    if label_smoothing:
        uniform = -scores.mean(axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return losses


def _log_softmax(logits: Array) -> Array:
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(wide)


def diagonal_accuracy(logits: Array) -> Array:
    """Returns the share of rows whose largest entry is on the diagonal.

    Args:
      logits: [B, B] float.
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == jnp.arange(logits.shape[0]))
