"""An image and a text tower, their pre-projectors, and their joint space."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError, explained
from clipin_jax.models.base import ImageTower, TextTower
from clipin_jax.models.layers import LINEAR_INITS, Linear, check_option, unit
from clipin_jax.types import Array, Features, TowerFeatures, View


class TwoTowers(nn.Module):
    """An image and a text tower with projections into the joint space.

    Attributes:
      image, text: the towers; each maps its input to `tokens` and `pooled`.
      embed_dim: width E of the joint space; 0 for none, where no objective needs one.
      pre_projector: width P of the linear layer that all heads share; 0 for none. With
        one, the projections into the joint space are linear layers with bias.
      projection: per modality the projection of `pooled` into the joint space without a
        pre-projector: a key of `PROJECTIONS`.
      projection_init: how pre-projectors and projections start, a key of
        `LINEAR_INITS`.
      image_mean, image_std: per channel, for pixels scaled to [0, 1].
    """

    image: ImageTower
    text: TextTower
    embed_dim: int
    pre_projector: int
    projection: Mapping[str, str]
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    projection_init: str = "released"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        check_option("model.projection_init", self.projection_init, LINEAR_INITS)
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        arguments = LINEAR_INITS[self.projection_init] | dtypes
        if self.pre_projector:
            self.image_pre_projector = Linear(self.pre_projector, **arguments)
            self.text_pre_projector = Linear(self.pre_projector, **arguments)
        if self.embed_dim:
            self.image_projection = self._projection("image", arguments)
            self.text_projection = self._projection("text", arguments)

    def _projection(self, modality: str, arguments: dict[str, Any]) -> Any:
        kind = "linear" if self.pre_projector else self.projection[modality]
        check_option(f"model.projection.{modality}", kind, PROJECTIONS)
        return PROJECTIONS[kind](self.embed_dim, arguments)

    def encode(self, view: View, train: bool = False) -> Features:
        """Runs the tower of every modality in the view.

        Args:
          view: images, texts or both.
          train: whether batch norms use and update batch statistics, and dropout is on.

        Returns:
          Per modality the output of the tower, and `shared` [B, P].
        """
        return self.share(self.run(view, train))

    def run(self, view: View, train: bool = False) -> dict[str, TowerFeatures]:
        """Returns per modality the output of the tower; the arguments of `encode`."""
        outputs = {}
        if "image" in view:
            image = normalize_pixels(view["image"], self.image_mean, self.image_std)
            outputs["image"] = self._run("image", image.astype(self.dtype), train)
        if "text" in view:
            outputs["text"] = self._run("text", view["text"], train)
        return outputs

    def share(self, outputs: Mapping[str, TowerFeatures]) -> Features:
        """Returns outputs of towers, per modality, with `shared` [B, P]."""
        return {
            modality: {**f, "shared": self._pre_project(modality, f["pooled"])}
            for modality, f in outputs.items()
        }

    def _run(self, modality: str, inputs: Array, train: bool) -> TowerFeatures:
        where = f"model.{modality}"
        with explained(where):
            features = getattr(self, modality)(inputs, train=train)
        shapes = {}
        if isinstance(features, dict):
            shapes = {key: jnp.shape(value) for key, value in features.items()}
        for key, axes in dict(tokens=("B", "N", "D"), pooled=("B", "D")).items():
            if len(shapes.get(key, ())) != len(axes):
                raise ClipinError(
                    f"{where}.name: a tower must return a dict with {key!r} of shape "
                    f"[{', '.join(axes)}], but it returned {shapes or type(features)}: "
                    "see clipin_jax/models/base.py"
                )
        return features

    def _pre_project(self, modality: str, pooled: Array) -> Array:
        if not self.pre_projector:
            return pooled
        return getattr(self, f"{modality}_pre_projector")(pooled)

    def embed(self, features: Features) -> Features:
        """Returns the features with `embedding`: [B, E] float32 of unit norm.

        Without a joint space, returns the features unchanged.

        Raises:
          ClipinError: a tower without projection is not `embed_dim` wide.
        """
        if not self.embed_dim:
            return features
        embedded = {}
        for modality, f in features.items():
            vector = getattr(self, f"{modality}_projection")(f["shared"])
            if vector.shape[-1] != self.embed_dim:
                raise ClipinError(
                    f"model.projection.{modality} is 'none', but the output of "
                    f"model.{modality} is {vector.shape[-1]} wide and model.embed_dim "
                    f"is {self.embed_dim}: make them equal, or use 'linear'"
                )
            embedded[modality] = {**f, "embedding": unit(vector)}
        return embedded


def _matrix(embed_dim: int, arguments: dict[str, Any]) -> Linear:
    return Linear(embed_dim, use_bias=False, **LINEAR_INITS["clip"] | arguments)


PROJECTIONS = {
    "matrix": _matrix,  # CLIP's: drawn with standard deviation 1/sqrt(D), no bias
    "linear": lambda embed_dim, arguments: Linear(embed_dim, **arguments),
    "none": lambda embed_dim, arguments: lambda pooled: pooled,
}


def normalize_pixels(
    image: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Array:
    """Scales uint8 pixels to [0, 1] and standardises them per channel.

    Args:
      image: [B, H, W, C] uint8; floats are normalised already and returned unchanged.
      mean: per channel.
      std: per channel.
    """
    if jnp.issubdtype(image.dtype, jnp.floating):
        return image
    return (image.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
