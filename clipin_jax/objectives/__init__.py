"""The objectives, by the name that `config.objectives` uses."""

from clipin_jax.objectives.clipin import Clipin
from clipin_jax.objectives.contrastive import Contrastive

OBJECTIVES = {"clipin": Clipin, "contrastive": Contrastive}
