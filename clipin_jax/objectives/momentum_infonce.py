"""CLIPin's predictions and targets, compared by contrast: what regression adds.

A control for CLIPin (arXiv 2508.06434): the same projectors, predictors, averaged
target and views, but every prediction has to find its target among those of the batch
instead of only pointing the way it points. Across modalities that is a contrast of
image and text under momentum; within one it is MoCo v3 (arXiv 2104.02057).
"""

from clipin_jax.objectives.clipin import Clipin
from clipin_jax.objectives.losses import info_nce
from clipin_jax.types import Array, Hyper


class MomentumInfoNCE(Clipin):
    """InfoNCE between predictions and averaged targets, the negatives in the batch.

    Takes all options of `Clipin`, and the scalar `temperature`.
    """

    scalars = {**Clipin.scalars, "temperature": 0.2}

    def compare(self, prediction: Array, target: Array, hyper: Hyper) -> Array:
        """The loss of one predictor; both are [B, projection_dim] of unit norm."""
        return info_nce(prediction, target, self.scalar("temperature", hyper))
