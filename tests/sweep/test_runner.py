"""Sweeps of listed points: each is trained once, whoever works on it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from tests.support.tiny_sweep import DECAY, METRIC, RATE, write_config


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """Processes of the sweep have one device: less to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        yield


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    config = write_config(tmp_path_factory.mktemp("sweep"))
    return ["sweep", str(config), f"{RATE}=1e-4,1e-3", f"{DECAY}=0,0.1"]


@pytest.fixture(scope="module")
def finished(command) -> Path:
    """The folder of a sweep that ran without disturbance."""
    folder = Path(command[1]).parent / "finished"
    assert main([*command, "--workdir", str(folder), "--metric", METRIC]) == 0
    return folder


def points(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["points"]


def test_every_point_has_its_score_and_its_run(finished):
    done = points(finished)
    assert [point["state"] for point in done] == ["done"] * 4
    assert len({point["folders"][0] for point in done}) == 4
    for point in done:
        assert (finished / point["folders"][0] / "DONE").is_file()
        assert 0 < point["values"][0] <= 1
        assert [step for step, _ in point["curve"]] == [1, 2, 3, 4]


def test_the_same_command_trains_nothing_and_a_wider_one_what_is_missing(
    command, finished, capsys
):
    before = {p["folders"][0]: p["values"] for p in points(finished)}
    options = ["--workdir", str(finished), "--metric", METRIC]
    assert main([*command, *options]) == 0
    assert "4 points, 0 runs left" in capsys.readouterr().out
    wider = [*command[:2], f"{RATE}=1e-4,1e-3", f"{DECAY}=0,0.1,0.2"]
    assert main([*wider, *options, "--dry-run"]) == 0
    assert "4 of 6 points are done" in capsys.readouterr().out
    assert {p["folders"][0]: p["values"] for p in points(finished)} == before
    assert os.listdir(finished / "claims" / "points") == []
