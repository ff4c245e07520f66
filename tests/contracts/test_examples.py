"""Classes that the contract tests cannot build give a helpful message."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from clipin_jax.models import IMAGE_TOWERS, TEXT_TOWERS
from clipin_jax.objectives import OBJECTIVES
from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Metrics
from tests.contracts import examples


class NeedsPath(ObjectiveModule):
    """An objective that cannot be built from its defaults."""

    path: str = ""

    def setup(self) -> None:
        super().setup()
        if not self.path:
            raise ValueError("no path")

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        return jnp.zeros(()), {}


def init(objective: NeedsPath) -> Any:
    return objective.init(jax.random.key(0), None)


def test_message_names_the_class_and_the_file():
    table: dict[str, Any] = {"needs_path": NeedsPath}
    with pytest.raises(AssertionError) as error:
        examples.build(table, {}, "needs_path", lambda make: init(make()))
    message = str(error.value)
    assert "NeedsPath ('needs_path') cannot be built from {}" in message
    assert "no path" in message and examples.__file__ in message


def test_every_example_belongs_to_a_class():
    assert set(examples.OBJECTIVES) <= set(OBJECTIVES)
    assert set(examples.TOWERS) <= set(IMAGE_TOWERS) | set(TEXT_TOWERS)
