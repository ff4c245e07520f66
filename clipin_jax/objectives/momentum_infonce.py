"""InfoNCE between CLIPin's predictions and targets: a control without the regression.

Projectors, predictors, target and views are those of CLIPin (arXiv 2508.06434), but
every prediction is classified among the targets of the batch. Across modalities that is
a momentum contrast of image and text; within a modality it is MoCo v3 (arXiv
2104.02057).
"""

import functools

from clipin_jax.objectives.base import TEMPERATURES, Inputs
from clipin_jax.objectives.clipin import TargetHeads
from clipin_jax.objectives.losses import info_nce
from clipin_jax.types import Array, Metrics


class MomentumInfoNCE(TargetHeads):
    """Applies InfoNCE to predictions and targets, with negatives from the batch.

    Scalars:
      temperature: divides the cosines.
    """

    scalars = {**TargetHeads.scalars, "temperature": 0.2}
    limits = {**TargetHeads.limits, "temperature": TEMPERATURES}

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the weighted sum of the terms, and each term."""
        predictions = self.predict(inputs.features, inputs.train)
        temperature = self.scalar("temperature", inputs.hyper)
        loss_fn = functools.partial(info_nce, temperature=temperature)
        return self.sum_terms(predictions, inputs.targets, loss_fn, inputs.hyper)
