import os
from typing import Any

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.processes import place as place_module
from clipin_jax.processes.place import Place

CLUSTER = (
    "SLURM_", "OMPI_", "JAX_LOCAL", "JAX_COORD", "KUBERNETES", "JOB_", "TPU_WORKER",
)  # fmt: skip
FLAGS = {"--coordinator": "n0:1234", "--processes": "2", "--process": "1"}


def find_place(flags, environ) -> Any:
    return place_module.find_place(flags, environ)


SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "n[0-1]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.fixture
def environ(monkeypatch):
    """Sets the variables of this process, which jax's detection reads."""

    def set_all(**variables):
        for name in list(os.environ):
            if name.startswith(CLUSTER):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return dict(os.environ)

    return set_all


def test_a_plain_machine_is_alone(environ):
    assert find_place({}, environ()) is None


def test_flags_and_variables():
    assert find_place(FLAGS, {}) == Place("n0:1234", 2, 1)
    told = {
        "CLIPIN_COORDINATOR": "[::1]:99",
        "CLIPIN_NUM_PROCESSES": "3",
        "CLIPIN_PROCESS_ID": "2",
        "JAX_LOCAL_DEVICE_IDS": "4,5",
    }
    place = find_place({}, told)
    assert place == Place("[::1]:99", 3, 2, (4, 5))
    assert place.address == ("::1", 99)
    assert find_place({"--process": "0"}, told).index == 0  # a flag goes first
    assert find_place({"--processes": "1"}, SLURM) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"--processes": "0"},
            r"--processes \(CLIPIN_NUM_PROCESSES\) is 0: give",
        ),
        (
            {"--process": "5"},
            r"--process \(.*\) is 5 of .* 2: they are counted",
        ),
        ({"--process": "-1"}, "is '-1': give a whole number, from 0"),
        ({"--processes": "two"}, "is 'two': give a whole number, from 1"),
        (
            {"--coordinator": "n0"},
            "is 'n0': give the host of process 0",
        ),
        ({"--coordinator": "n0:99999"}, "is 'n0:99999': give the host"),
        (
            {"--coordinator": None},
            r"and --process .* without --coordinator .*: give",
        ),
        ({"--process": None, "--coordinator": None}, "without .* and --process"),
    ],
)
def test_wrong_flags(change, message):
    with pytest.raises(ClipinError, match=message) as error:
        find_place(FLAGS | change, {})
    assert "\n" not in str(error.value)


def test_a_step_of_slurm(environ):
    assert find_place({}, environ(**SLURM)) == Place("n0:61586", 2, 1, (0,))
    told = environ(**SLURM, JAX_COORDINATOR_ADDRESS="10.0.0.1:7")
    assert find_place({}, told) == Place("10.0.0.1:7", 2, 1, (0,))
    every_gpu = environ(**SLURM, JAX_LOCAL_DEVICE_IDS="0,1")
    assert find_place({}, every_gpu).devices == (0, 1)
    # Slurm can show each task its own GPU alone.
    own = environ(**SLURM | {"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "3"})
    assert find_place({}, own).devices is None
    assert find_place({}, environ(**SLURM | {"SLURM_NTASKS": "1"})) is None


def test_the_shell_of_a_job(environ):
    shell = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NUM_NODES": "1"}
    assert find_place({}, environ(**shell)) is None
    assert find_place({}, environ(**shell, SLURM_NTASKS="1")) is None
    for change in ({"SLURM_NTASKS": "8"}, {"SLURM_JOB_NUM_NODES": "2"}):
        job = environ(**shell | change)
        with pytest.raises(ClipinError, match="start it with `srun clipin"):
            find_place({}, job)
        assert find_place({}, job | {"CLIPIN_NUM_PROCESSES": "1"}) is None


def test_open_mpi(environ):
    assert find_place({}, environ(**MPI)) == Place("10.96.0.1:62624", 4, 3, (1,))


def test_pods(environ, capsys):
    pod = environ(KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert find_place({}, pod) is None  # such as a notebook's
    assert not capsys.readouterr().err
    indexed = environ(KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX="1")
    assert find_place({}, indexed) is None
    assert "pip install 'jax[k8s]', or set CLIPIN_COORD" in capsys.readouterr().err
