"""CLIPin whose target is the online network: a control without averaging.

Projectors, predictors, views and loss are those of CLIPin (arXiv 2508.06434). With
`stop_gradient` this is SimSiam (arXiv 2011.10566) within and across modalities. Without
it, only the predictors and the host's loss prevent a collapse.
"""

import jax

from clipin_jax.models.layers import unit
from clipin_jax.objectives.base import OTHER_IMAGE, OTHER_TEXT, POOLED, Inputs
from clipin_jax.objectives.clipin import PredictionHeads
from clipin_jax.objectives.losses import cosine_regression
from clipin_jax.types import Array, Metrics


class Siamese(PredictionHeads):
    """Regresses the online projections of the other view.

    Attributes:
      stop_gradient: whether to stop the gradient through the targets.
    """

    reads = (POOLED, OTHER_IMAGE, OTHER_TEXT)
    stop_gradient: bool = True

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the weighted sum of the terms, and each term."""
        predictions = self.predict(inputs.features, inputs.train)
        features = inputs.features
        if inputs.other_view is not inputs.view:
            features = inputs.encode_other("image", "text")
        projections = self.project(features, inputs.train)
        targets = {m: unit(u) for m, u in projections.items()}
        if self.stop_gradient:
            targets = jax.lax.stop_gradient(targets)
        return self.sum_terms(predictions, targets, cosine_regression, inputs.hyper)
