"""Every objective of `OBJECTIVES` trains and resumes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.objectives import OBJECTIVES
from tests.contracts import examples
from tests.support.small_learner import (
    BATCH,
    TwoSteps,
    assert_every_parameter_learns,
    assert_finite,
    assert_resumes,
    by_path,
    make_learner,
)


@pytest.fixture(scope="module", params=sorted(OBJECTIVES))
def steps(request) -> TwoSteps:
    """Two steps of a learner with this objective alone."""
    return examples.build(
        OBJECTIVES,
        examples.OBJECTIVES,
        request.param,
        lambda make: TwoSteps(lambda: make_learner(row=make())),
    )


def test_is_finite(steps):
    assert_finite(steps)


def test_differentiates(steps):
    assert_every_parameter_learns(steps, "objectives_row/")
    towers = by_path(steps.first.gradient["towers"])
    assert any(np.any(leaf) for leaf in towers.values()), "no gradient reaches a tower"


def test_jits_and_resumes(steps):
    assert_resumes(steps)


def test_scalars_have_defaults(steps):
    scalars = steps.learner.objectives["row"].scalars
    assert "weight" in scalars
    assert all(isinstance(value, float) for value in scalars.values())


def test_optional_methods(steps):
    """The methods that evaluators and logs call return the promised shapes."""
    state, learner = steps.first.state, steps.learner
    objective = learner.objectives["row"]
    view = steps.batch["view1"]

    def outputs(learner: Any) -> dict[str, Any]:
        row = learner.objectives["row"]
        features = learner.towers.embed(learner.towers.encode(view))
        tokens = [features[m]["tokens"] for m in ("text", "image")]
        calls = {
            "predictions": lambda: row.predictions(features),
            "embed": lambda: row.embed(features),
            "scores": lambda: row.scores(learner.towers, view["text"], *tokens),
        }
        return {name: calls[name]() for name in calls if hasattr(type(row), name)}

    results = learner.apply(state.variables, method=outputs)
    for name in results.keys() & {"predictions", "embed"}:
        for vectors in results[name].values():
            assert vectors.shape[0] == BATCH
            norms = jnp.linalg.norm(vectors, axis=-1)
            np.testing.assert_allclose(norms, 1, rtol=1e-5)
    if "scores" in results:
        assert results["scores"].shape == (BATCH,)
        assert np.all(np.isfinite(results["scores"]))
    if hasattr(type(objective), "num_choices"):
        assert objective.num_choices(BATCH) >= BATCH
    has_targets = hasattr(type(objective), "targets")
    assert bool(jax.tree.leaves(steps.start.target_params)) == has_targets
    if has_targets:
        assert objective.target_view in ("same", "second")
