"""A contrastive loss between two views of the images (SLIP, arXiv 2112.12750).

SimCLR (arXiv 2002.05709) with SLIP's head. SLIP draws three views, one for the texts
and two for this term; here the first view serves both, which saves a forward pass.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import BatchNorm, Linear, unit
from clipin_jax.objectives.base import (
    OTHER_IMAGE,
    POOLED,
    SIZES,
    TEMPERATURES,
    Inputs,
    ObjectiveModule,
)
from clipin_jax.objectives.losses import nt_xent
from clipin_jax.types import Array, Metrics


class ViewHead(nn.Module):
    """Three linear layers, with batch norm and ReLU after the first two."""

    hidden: int
    features: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Returns [B, features] in at least float32, of unit norm; x: [B, D]."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        for i in range(2):
            x = Linear(self.hidden, **dtypes, name=f"hidden_{i}")(x)
            norm = BatchNorm(
                affine=True, param_dtype=self.param_dtype, name=f"norm_{i}"
            )
            x = jax.nn.relu(norm(x, train=train))
        return unit(Linear(self.features, **dtypes, name="out")(x))


class Simclr(ObjectiveModule):
    """Classifies each view of an image among all views of the global batch.

    The online image tower encodes both views, with gradient. The head reads `pooled`,
    before a pre-projector. Needs `data.views = 2`.

    Attributes:
      hidden_dim: width inside the head.
      projection_dim: width of the vectors that are compared.

    Scalars:
      temperature: divides the cosines.
    """

    scalars = {"weight": 1.0, "temperature": 0.1}
    limits = {
        "temperature": TEMPERATURES,
        "hidden_dim": SIZES,
        "projection_dim": SIZES,
    }
    reads = (POOLED, OTHER_IMAGE)
    hidden_dim: int = 4096
    projection_dim: int = 256

    def setup(self) -> None:
        super().setup()
        self.head = ViewHead(self.hidden_dim, self.projection_dim, **self.dtypes)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the mean cosine of the two views.

        The head normalises each view with its own batch statistics.

        Raises:
          ClipinError: there is only one view.
        """
        if inputs.other_view["image"] is inputs.view["image"]:
            raise ClipinError(
                f"{self.config_key} compares two views of each image, but there is "
                "one: set data.views = 2"
            )
        other = inputs.encode_other("image")
        first = self.head(inputs.features["image"]["pooled"], inputs.train)
        second = self.head(other["image"]["pooled"], inputs.train)
        temperature = self.scalar("temperature", inputs.hyper)
        metrics = {"view_cosine": jnp.mean(jnp.sum(first * second, axis=-1))}
        return nt_xent(first, second, temperature), metrics
