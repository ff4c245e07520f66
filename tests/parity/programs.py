"""What parity tests share: tolerances, layouts of images, one compiled pass."""

import functools
from typing import Any

import jax
import numpy as np

FORWARD = 1e-11  # losses, features, hidden states, logits
GRADIENT = 1e-10
MEMORY = 1e-9  # momentum copies, batch statistics, queues


def apply(learner: Any, variables: dict, *inputs: Any, method: Any) -> Any:
    """`learner.apply`, compiled as a whole."""
    function = functools.partial(learner.apply, method=method)
    return jax.jit(function)(variables, *inputs)


def channels_last(image: np.ndarray) -> np.ndarray:
    """PyTorch's images [B, C, H, W] as ours, [B, H, W, C]."""
    return np.transpose(image, (0, 2, 3, 1))


def channels_first(image: np.ndarray) -> np.ndarray:
    """Our images [B, H, W, C] as PyTorch's, [B, C, H, W]."""
    return np.transpose(image, (0, 3, 1, 2))
