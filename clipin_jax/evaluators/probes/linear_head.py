"""The linear head that gradient steps train: its start, its loss, its order."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import optax

from clipin_jax.types import Array

Head = Mapping[str, Array]


def new_head(width: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    """Weights uniform in +-1 / sqrt(width), as PyTorch starts a linear layer.

    Returns {"kernel": [width, classes], "bias": [classes]} float32.
    """
    rng, bound = np.random.default_rng(seed), width**-0.5
    return {
        "kernel": rng.uniform(-bound, bound, (width, classes)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, classes).astype(np.float32),
    }


def answer(head: Head, features: Array) -> Array:
    """features: [B, D]. Returns logits [B, K]."""
    return features @ head["kernel"] + head["bias"]


def sigmoid_loss(logits: Array, members: Array, mask: Array) -> Array:
    """Binary cross-entropy, the mean over classes and over rows that are no padding.

    logits, members: [B, K], the latter 0 or 1; mask: [B] bool.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, members).mean(axis=1)
    return (losses * mask).sum() / jnp.maximum(mask.sum(), 1)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: every index once, [count] int."""
    # The 1 keeps this stream apart from that of views.
    return np.random.default_rng((seed, epoch, 0, 1)).permutation(count)
