"""An objective that spreads embeddings over the unit sphere."""

import jax.numpy as jnp

from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Metrics


class Uniformity(ObjectiveModule):
    """The uniformity loss of Wang and Isola (arXiv 2005.10242, section 4.1.2)."""

    scalars = {"weight": 1.0, "scale": 2.0}
    modality: str = "image"

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        x = inputs.features[self.modality]["embedding"]  # [B, E] of unit norm
        squared_distance = 2 - 2 * x @ x.T
        others = ~jnp.eye(len(x), dtype=bool)
        potential = jnp.exp(-self.scalar("scale", inputs.hyper) * squared_distance)
        loss = jnp.log(jnp.mean(potential, where=others))
        return loss, {"squared_distance": jnp.mean(squared_distance, where=others)}
