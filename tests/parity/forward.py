"""One compiled pass of our learner, and the image layouts of both sides."""

import functools
from typing import Any

import jax
import numpy as np


def jit_apply(learner: Any, variables: dict, *inputs: Any, method: Any) -> Any:
    """Runs `learner.apply`, compiled as one program."""
    function = functools.partial(learner.apply, method=method)
    return jax.jit(function)(variables, *inputs)


def channels_last(image: np.ndarray) -> np.ndarray:
    """Turns PyTorch's images [B, C, H, W] into ours, [B, H, W, C]."""
    return np.transpose(image, (0, 2, 3, 1))


def channels_first(image: np.ndarray) -> np.ndarray:
    """Turns our images [B, H, W, C] into PyTorch's, [B, C, H, W]."""
    return np.transpose(image, (0, 3, 1, 2))
