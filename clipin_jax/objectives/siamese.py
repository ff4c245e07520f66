"""CLIPin's predictions against the online network itself: what the average adds.

A control for CLIPin (arXiv 2508.06434): projectors, predictors, views and losses are
the same, but no network is averaged. With `stop_gradient` it is SimSiam
(arXiv 2011.10566) within and across modalities; without, both sides move towards each
other and nothing but the predictors and the host's own loss keeps them from collapse.
"""

import jax

from clipin_jax.models.layers import unit
from clipin_jax.objectives.base import Inputs
from clipin_jax.objectives.clipin import Predicting
from clipin_jax.types import Array


class Siamese(Predicting):
    """Regression of the online projections of the other view.

    Attributes:
      stop_gradient: whether what is predicted is taken as given.
    """

    stop_gradient: bool = True

    def answers(self, inputs: Inputs) -> dict[str, Array]:
        """Per modality: [B, projection_dim] float32 of unit norm."""
        features = inputs.features
        if inputs.other_view is not inputs.view:
            features = inputs.towers.encode(inputs.other_view, inputs.train)
        said = {m: unit(u) for m, u in self.project(features, inputs.train).items()}
        return jax.lax.stop_gradient(said) if self.stop_gradient else said
