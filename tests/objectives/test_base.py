"""What the base class gives every objective."""

from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.schedules import make_hyper
from tests.support.tiny import tiny_config


def test_a_config_lists_only_what_differs_from_the_class():
    config = tiny_config().copy_and_resolve_references()
    with config.unlocked():
        config.objectives = ConfigDict(
            dict(contrastive={}, clipin=dict(intra_weight="learned", weight=2.0))
        )
    learner = build(config)
    numbers = make_hyper(config, learner.objectives)(0)["objectives"]
    assert numbers == {
        "contrastive": {"weight": 1.0},
        "clipin": {"weight": 2.0, "inter_weight": 1.0},
    }
    assert learner.objectives["clipin"].learned == ("intra_weight",)
