"""Objectives: heads and losses, and the table of their names in `config.objectives`.

Imports flax, jax, optax, `errors`, `types`, `models.base` and `models.layers`.
"""

from clipin_jax.objectives.captioning import Captioning
from clipin_jax.objectives.clipin import Clipin
from clipin_jax.objectives.cluster import Cluster
from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.objectives.masked_lm import MaskedLM
from clipin_jax.objectives.matching import Matching
from clipin_jax.objectives.momentum_contrastive import MomentumContrastive
from clipin_jax.objectives.momentum_infonce import MomentumInfoNCE
from clipin_jax.objectives.siamese import Siamese
from clipin_jax.objectives.sigmoid import Sigmoid
from clipin_jax.objectives.simclr import Simclr

OBJECTIVES = {
    "captioning": Captioning,
    "clipin": Clipin,
    "cluster": Cluster,
    "contrastive": Contrastive,
    "masked_lm": MaskedLM,
    "matching": Matching,
    "momentum_contrastive": MomentumContrastive,
    "momentum_infonce": MomentumInfoNCE,
    "siamese": Siamese,
    "sigmoid": Sigmoid,
    "simclr": Simclr,
}
