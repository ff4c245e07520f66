"""Two runs that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.support.saved_runs import save_run, small_state
from tests.support.tiny import tiny_config


@pytest.fixture(scope="session")
def first(tmp_path_factory) -> str:
    """A run with checkpoints 2 and 4. Not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "first", [2, 4])


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> str:
    """A run of another seed and rate, with checkpoint 6. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "second"
    return make_run(folder, [6], "seed=1", "optim.learning_rate=0.1")


def make_run(folder: Path, steps: list[int], *overrides: str) -> str:
    states = {step: small_state(step) for step in steps}
    return str(save_run(folder, tiny_config(*overrides), states))
