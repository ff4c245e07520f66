"""The checks of `clipin doctor`."""

import numpy as np
import pytest

from clipin_jax.commands import machine_checks
from clipin_jax.commands import main as cli
from clipin_jax.errors import ClipinError


def test_a_working_machine_passes(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "sum over 8 device(s) is correct on each" in out
    assert "49408 tokens" in out and out.endswith("all checks passed\n")


def test_a_failed_check_is_named_and_the_others_run(monkeypatch):
    def advise() -> str:
        raise ClipinError("do this")

    def fail() -> str:
        raise OSError("no such device")

    lines: list[str] = []
    checks = {"first": advise, "second": fail, "third": lambda: "good"}
    monkeypatch.setattr(machine_checks, "CHECKS", checks)
    assert machine_checks.check_machine(lines.append) == 1
    assert lines == [
        "BROKEN first          do this",
        "BROKEN second         OSError: no such device",
        "ok     third          good",
        "2 of 3 checks failed",
    ]


def test_wrong_sums_and_pixels_fail(monkeypatch):
    monkeypatch.setattr(machine_checks.jnp, "sum", lambda x: x[0] * 0)
    with pytest.raises(ClipinError, match="got 0.0 for a sum over 8 devices, not 28"):
        machine_checks.CHECKS["collective"]()
    monkeypatch.setattr(
        machine_checks, "decode", lambda data: np.zeros((8, 8, 3), np.uint8)
    )
    with pytest.raises(ClipinError, match="pixels of a PNG are wrong"):
        machine_checks.CHECKS["images"]()


def test_versions_outside_of_the_tested_bounds_fail(monkeypatch):
    metadata = machine_checks.importlib.metadata
    needs = ["jax>=0.1", "numpy>=99", "pytest; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    with pytest.raises(ClipinError, match=r"numpy \S+ is not >=99: run pip install"):
        machine_checks.CHECKS["versions"]()
    monkeypatch.setattr(metadata, "requires", lambda name: ["jax>=0.1"])
    assert "jax 0." in machine_checks.CHECKS["versions"]()
