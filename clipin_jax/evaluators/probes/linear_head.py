"""A linear head trained by gradient steps: initial values, loss, batches."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import optax

from clipin_jax.errors import ClipinError
from clipin_jax.inference.encoder import Encoder
from clipin_jax.types import Array

Head = Mapping[str, Array]  # kernel [D, K] and bias [K]


def check_training(
    encoder: Encoder, epochs: int, train_batch_size: int, augment: bool
) -> None:
    """Checks the arguments of evaluators that train.

    Raises:
      ClipinError: counts below 1, or views that the encoder cannot make.
    """
    if epochs < 1 or train_batch_size < 1:
        raise ClipinError(
            "epochs and train_batch_size must be 1 or more, got"
            f" {epochs} and {train_batch_size}"
        )
    if augment and encoder.augment is None:
        raise ClipinError(
            "augment is on, but the encoder makes no training views: set augment=False"
        )


def new_head(width: int, num_classes: int, seed: int) -> dict[str, np.ndarray]:
    """Returns weights uniform in +-1 / sqrt(width), as PyTorch initializes a layer.

    Returns {"kernel": [width, num_classes], "bias": [num_classes]} float32.
    """
    rng, bound = np.random.default_rng(seed), width**-0.5
    return {
        "kernel": rng.uniform(-bound, bound, (width, num_classes)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, num_classes).astype(np.float32),
    }


def head_logits(head: Head, features: Array) -> Array:
    """Returns logits [B, K] of features [B, D]."""
    return features @ head["kernel"] + head["bias"]


def sigmoid_loss(logits: Array, members: Array, mask: Array) -> Array:
    """Returns the binary cross-entropy, the mean over classes and unpadded rows.

    Args:
      logits: [B, K].
      members: [B, K], 0 or 1.
      mask: [B] bool, False where padded.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, members).mean(axis=1)
    return (losses * mask).sum() / jnp.maximum(mask.sum(), 1)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch, a permutation [count] int."""
    # The 1 separates this stream of random numbers from that of the views.
    return np.random.default_rng((seed, epoch, 0, 1)).permutation(count)


def cut_batches(order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts an order into batches, the last padded: rows and mask [S, batch_size]."""
    count = -(-len(order) // batch_size)
    rows = np.zeros(count * batch_size, np.int32)
    rows[: len(order)] = order
    mask = np.arange(len(rows)) < len(order)
    return rows.reshape(count, -1), mask.reshape(count, -1)
