"""Which arrays of a run are handed on."""

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.interop.exports.kept_arrays import kept_arrays, kept_note
from clipin_jax.interop.exports.trained_model import TrainedModel
from tests.support.trained_models import FACTS


def test_the_scale_has_the_name_of_its_type():
    params = {
        "towers": {"image": {"w": np.zeros(1)}},
        "objectives_infonce": {
            "logit_scale": np.ones(()),
            "learned_weight": np.ones(()),
        },
        "objectives_clipin": {"head": np.zeros(1)},
    }
    objectives = dict(infonce=dict(type="contrastive"), clipin=dict())
    config = dict(objectives=objectives, model=dict(pre_projector=0))
    model = TrainedModel(ConfigDict(config), {"params": params}, FACTS)
    kept = kept_arrays(model, "infonce")
    assert set(kept) == {"towers/image/w", "objectives_contrastive/logit_scale"}
    [note] = kept_note(model, kept)
    assert note.endswith("left out: clipin.")
