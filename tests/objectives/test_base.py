"""What the base class gives every objective."""

import pytest
from ml_collections import ConfigDict

from clipin_jax.core import schedules
from clipin_jax.core.learner import build
from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Linear
from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Metrics
from tests.support.small_learner import (
    make_batch,
    make_hyper,
    make_learner,
    start_state,
)
from tests.support.tiny import tiny_config


def test_a_config_lists_only_what_differs_from_the_class():
    config = tiny_config().copy_and_resolve_references()
    with config.unlocked():
        config.objectives = ConfigDict(
            dict(contrastive={}, clipin=dict(intra_weight="learned", weight=2.0))
        )
    learner = build(config)
    numbers = schedules.make_hyper(config, learner.objectives)(0)["objectives"]
    assert numbers == {
        "contrastive": {"weight": 1.0},
        "clipin": {"weight": 2.0, "inter_weight": 1.0},
    }
    assert learner.objectives["clipin"].learned == ("intra_weight",)


class WithoutSuper(ObjectiveModule):
    scalars = {"weight": 1.0, "margin": 0.2}

    def setup(self) -> None:
        self.head = Linear(2)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        head = self.head(inputs.features["image"]["embedding"]).mean()
        return head * self.scalar("margin", inputs.hyper), {}


class UnknownScalar(ObjectiveModule):
    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        return self.scalar("wieght", inputs.hyper), {}


def state_of(objective: ObjectiveModule) -> TrainState:
    learner = make_learner(mine=objective)
    return start_state(learner, make_batch(), make_hyper(learner))


def test_a_setup_without_super_serves_scalars_that_are_not_learned():
    assert "head" in state_of(WithoutSuper()).params["objectives_mine"]


def test_a_learned_scalar_without_super_names_the_remedy():
    with pytest.raises(ClipinError, match=r"margin is 'learned', .*super\(\).setup"):
        state_of(WithoutSuper(learned=("margin",)))


def test_an_unknown_scalar_names_the_nearest():
    with pytest.raises(ClipinError, match="'wieght', .* did you mean 'weight'"):
        state_of(UnknownScalar())
