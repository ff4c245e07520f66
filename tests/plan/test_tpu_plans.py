"""Plans for TPUs, whose compiler works on any CPU."""

import json
import os
import subprocess
import sys

import pytest

from clipin_jax.config import list_configs, load_config
from clipin_jax.errors import ClipinError

pytest.importorskip("libtpu")


def run_plan(*arguments: str) -> tuple[int, str, list[str]]:
    """Returns the exit code, the output and the lines of errors of a plan."""
    command = [sys.executable, "-m", "clipin_jax", "plan", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "", "XLA_FLAGS": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    # Another test may have the compiler, which is a line too.
    lines = ended.stderr.splitlines()
    lines = [line for line in lines if not line.startswith("clipin: waiting")]
    return ended.returncode, ended.stdout, lines


def planned(*arguments: str) -> dict:
    code, output, errors = run_plan(*arguments, "--quick", "--json")
    assert (code, errors) == (0, [])
    return json.loads(output)


def every_config() -> list[str]:
    """Lists all configs in few layers, plain and with CLIPin if they accept it."""
    specs = []
    for name in list_configs():
        for spec in (f"{name}:runlocal", f"{name}:clipin,runlocal"):
            try:
                load_config(spec)
            except ClipinError as error:
                assert "option" in str(error), error
            else:
                specs.append(spec)
    return specs


def test_a_plan_for_a_tpu_that_is_not_there():
    arguments = ["clip:clipin,runlocal", "batch_size=64", "model.dtype=bfloat16"]
    record = planned(*arguments, "--on", "v5e:2x2")
    assert record["fits"] and record["devices"] == 4
    assert record["collectives"]["all-reduce"]["runs"] > 0
    memory = record["memory"]
    assert memory["limit"] == 15.75 * 2**30
    state = sum(memory[part] for part in ("params", "optimizer", "target", "others"))
    assert state + memory["temporaries"] < memory["total"] < 2**30
    assert memory["temporaries"] > memory["params"]  # gradients
    assert 0 < record["flops"] and 0 < record["seconds"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("spec", every_config())
def test_every_config_is_planned(spec):
    record = planned(spec, "model.dtype=bfloat16", "--on", "v5e:2x2")
    assert record["fits"] and record["flops"] > 0 and record["seconds"] > 0
    assert record["collectives"]["all-reduce"]["bytes"] > record["memory"]["params"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("chips", ["v4:2x2x1", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"])
def test_every_chip_is_planned(chips):
    record = planned("clip:runlocal", "model.dtype=bfloat16", "--on", chips)
    assert record["fits"]
    assert record["devices"] == (8 if chips.startswith("tpu7x") else 4)  # of two cores
    assert record["flops"] > 0 and record["traffic"] > 0


@pytest.mark.slow
def test_a_plan_for_two_slices():
    record = planned(
        "clip:runlocal", "batch_size=64", "mesh.dcn=2", "--on", "2xv5e:2x2"
    )
    assert (record["devices"], record["slices"]) == (8, 2)
    assert record["network"]["all-reduce"]["bytes"] > record["memory"]["params"] / 5


def test_a_topology_that_does_not_exist_is_one_line():
    code, _, errors = run_plan("clip:runlocal", "--on", "v5e:3x5")
    assert code == 78 and len(errors) == 1
    assert "'v5e:3x5', which is no topology of v5e" in errors[0]
