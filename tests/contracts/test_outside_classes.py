"""The example classes in the docstrings of `objectives.base` and `models.base` work."""

import textwrap
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import clipin_jax.models.base
import clipin_jax.objectives.base
from clipin_jax.models.layers import Linear
from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Metrics, TowerFeatures
from tests.support.small_learner import (
    TwoSteps,
    assert_every_parameter_learns,
    assert_finite,
    assert_resumes,
    make_learner,
)

NAMES = {
    "Any": Any, "Array": Array, "Inputs": Inputs, "Linear": Linear, "Metrics": Metrics,
    "ObjectiveModule": ObjectiveModule, "TowerFeatures": TowerFeatures, "jax": jax,
    "jnp": jnp, "nn": nn,
}  # fmt: skip


def docstring_class(module: ModuleType, name: str) -> Any:
    """Returns the class of this name in the docstring of a module."""
    lines = (module.__doc__ or "").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("    class "))
    code = [line for line in lines[first:] if line.startswith("    ") or not line]
    namespace = {"__name__": "their_package", **NAMES}
    exec(textwrap.dedent("\n".join(code)), namespace)
    return namespace[name]


def test_example_objective():
    triplet = docstring_class(clipin_jax.objectives.base, "Triplet")
    steps = TwoSteps(lambda: make_learner(triplet=triplet()))
    assert_finite(steps)
    assert_resumes(steps)
    assert_every_parameter_learns(steps, "towers/image")


def test_example_tower():
    tower = docstring_class(clipin_jax.models.base, "MeanColour")
    steps = TwoSteps(lambda: make_learner(image=tower(width=4)))
    assert_finite(steps)
    assert_resumes(steps)
    assert_every_parameter_learns(steps, "towers/image/")
