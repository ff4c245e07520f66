import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A real Slurm of two nodes."""
    if missing := missing_programs():
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    # Not pytest's folder, whose path is too long for a socket's.
    with tempfile.TemporaryDirectory(prefix="slurm_") as folder:
        with slurm_cluster(Path(folder)) as cluster:
            yield cluster


@pytest.fixture
def slurm_clients(slurm, monkeypatch) -> SlurmCluster:
    """The same, for `clipin launch` in this process."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environment[name])
    return slurm
