"""Two towers, their pre-projectors, and the joint space of image and text."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.losses import unit
from clipin_jax.models.layers import Linear
from clipin_jax.types import Array, Features, View

MODALITIES = ("image", "text")


class TwoTowers(nn.Module):
    """An image and a text tower with projections into the joint space.

    Attributes:
      image, text: the towers; each maps its input to `tokens` and `pooled`.
      embed_dim: width E of the joint space.
      pre_projector: width P of the linear layer that all heads share; 0 for none.
      image_mean, image_std: per channel, for pixels scaled to [0, 1].
    """

    image: nn.Module
    text: nn.Module
    embed_dim: int
    pre_projector: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        if self.pre_projector:
            self.image_pre_projector = Linear(self.pre_projector, **dtypes)
            self.text_pre_projector = Linear(self.pre_projector, **dtypes)
        self.image_projection = self._projection(dtypes)
        self.text_projection = self._projection(dtypes)

    def _projection(self, dtypes: dict[str, Any]) -> Linear:
        if self.pre_projector:  # CLIPin's contrastive head: a plain linear layer
            return Linear(self.embed_dim, **dtypes)
        # CLIP's: a matrix drawn with standard deviation 1/sqrt(D), no bias
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        return Linear(self.embed_dim, use_bias=False, kernel_init=init, **dtypes)

    def encode(self, view: View) -> Features:
        """Runs the tower of every modality that the view has.

        Returns:
          Per modality `tokens` [B, N, D], `pooled` [B, D] and `shared` [B, P].
        """
        features = {}
        if "image" in view:
            image = normalize_pixels(view["image"], self.image_mean, self.image_std)
            features["image"] = self.image(image.astype(self.dtype))
        if "text" in view:
            features["text"] = self.text(view["text"])
        return {
            modality: {**f, "shared": self._pre_project(modality, f["pooled"])}
            for modality, f in features.items()
        }

    def _pre_project(self, modality: str, pooled: Array) -> Array:
        if not self.pre_projector:
            return pooled
        return getattr(self, f"{modality}_pre_projector")(pooled)

    def embed(self, features: Features) -> Features:
        """Adds `embedding`: [B, E] float32 of unit norm, to every modality."""
        return {
            modality: {
                **f,
                "embedding": unit(getattr(self, f"{modality}_projection")(f["shared"])),
            }
            for modality, f in features.items()
        }


def normalize_pixels(
    image: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Array:
    """Scales uint8 pixels to [0, 1] and standardises them per channel.

    Args:
      image: [B, H, W, C] uint8; floats are taken as normalised and come back as is.
      mean: per channel.
      std: per channel.
    """
    if jnp.issubdtype(image.dtype, jnp.floating):
        return image
    return (image.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
