"""Float64, and the runs that several test files share; each trains once."""

import jax
import pytest

from tests.parity.clipin_run import ClipinRun
from tests.parity.golden_files import load
from tests.parity.host_runs import albef_run, blip_run
from tests.parity.momentum_run import MomentumRun


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def clipin(golden_folder) -> ClipinRun:
    return ClipinRun(load(golden_folder, "clipin_tiny.npz"))


@pytest.fixture(scope="session")
def albef(golden_folder) -> MomentumRun:
    return albef_run(load(golden_folder, "albef_tiny.npz"))


@pytest.fixture(scope="session")
def blip(golden_folder) -> MomentumRun:
    return blip_run(load(golden_folder, "blip_tiny.npz"))
