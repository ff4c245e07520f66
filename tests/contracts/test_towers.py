"""Every tower of `IMAGE_TOWERS` and `TEXT_TOWERS` trains and resumes.

The objective uses every output, also those of optional methods.
"""

import inspect

import pytest

from clipin_jax.models import IMAGE_TOWERS, TEXT_TOWERS
from tests.contracts import examples
from tests.support.small_learner import (
    TwoSteps,
    assert_every_parameter_learns,
    assert_finite,
    assert_resumes,
    make_learner,
)

TABLES = {"image": IMAGE_TOWERS, "text": TEXT_TOWERS}
ROWS = [(kind, name) for kind, table in TABLES.items() for name in sorted(table)]
# The learner gives these to every tower.
SHARED = {"scan_layers", "remat", "dtype", "param_dtype"}


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row[1])
def row(request) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def steps(row) -> TwoSteps:
    """Two steps of a learner with this tower."""
    kind, name = row
    return examples.build(
        TABLES[kind],
        examples.TOWERS,
        name,
        lambda make: TwoSteps(lambda: make_learner(**{kind: make()})),
    )


def test_takes_the_arguments_of_every_tower(row):
    kind, name = row
    missing = SHARED - set(inspect.signature(TABLES[kind][name]).parameters)
    assert not missing, f"{name} has no fields {missing}"


def test_is_finite(steps):
    assert_finite(steps)


def test_differentiates(row, steps):
    assert_every_parameter_learns(steps, f"towers/{row[0]}/")


def test_jits_and_resumes(steps):
    assert_resumes(steps)
