"""A finished run that the tests of this folder share."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from clipin_jax.training.loop import train
from tests.support import tiny_runs


@pytest.fixture(scope="session")
def config() -> ConfigDict:
    return tiny_runs.tiny_run()


@pytest.fixture(scope="session")
def straight(config, tmp_path_factory) -> Path:
    """The folder of a run that was never stopped. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    with tiny_runs.on_one_device():
        assert train(config, folder) == 0
    return folder
