"""Sweeps of listed points: each is trained once, whoever works on it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import config_hash, load_config
from clipin_jax.sweep.definition import best_command, read_sweep
from clipin_jax.sweep.outcomes import collect_points, ranked
from clipin_jax.sweep.preview import count_programs
from clipin_jax.sweep.sweep_file import load_sweep, typed_items
from tests.support.html_pages import ParsedPage
from tests.support.tiny_sweep import DECAY, METRIC, RATE, write_config


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """Processes of the sweep have one device: less to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        patch.setenv("JAX_LOG_COMPILES", "1")
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


def test_all_points_compile_one_training_program(command, finished):
    """The numbers that differ are inputs of the step; one process trained them all."""
    logs = [path.read_text() for path in (finished / "logs").rglob("*.txt")]
    assert len(logs) == 4
    assert sum(log.count("Compiling jit(train_step)") for log in logs) == 1


def test_programs_are_counted_by_what_the_step_depends_on(command):
    rates = f"{RATE}=1e-4,2e-4,3e-4,4e-4,5e-4,6e-4"
    twelve = [rates, "objectives.contrastive.weight=0.5,1"]
    assert programs(command[1], twelve) == 1
    assert programs(command[1], [*twelve, "seed=0,1", "optim.b1=0.8,0.9"]) == 2
    assert programs(command[1], ["batch_size=16,32", "model.embed_dim=8,16"]) == 4


def programs(config: str, items: list[str]) -> int:
    sweep = load_sweep(config, typed_items(items), {})
    return count_programs(sweep, sweep.assignments())


def test_the_best_point_becomes_a_config(finished, tmp_path, capsys):
    path = tmp_path / "best.py"
    assert main(["sweep", "best", str(finished), "--write", str(path)]) == 0
    shown = capsys.readouterr().out
    sweep = read_sweep(finished)
    best = ranked(sweep, collect_points(sweep, finished))[0]
    assert best_command(sweep, best.assignment) in shown
    assert config_hash(load_config(str(path))) == config_hash(
        sweep.config(best.assignment)
    )


def test_the_page_shows_every_point(finished):
    page = (finished / "sweep.html").read_text()
    for word in ("Best point", "Parallel coordinates", "Importance", "Learning curves"):
        assert f"<h2>{word}</h2>" in page
    points = next(rows for rows in ParsedPage(page).values if len(rows[0]) > 4)
    assert len(points) == 1 + 4
    assert page.count('class="line"') >= 4 + 4  # coordinates and curves


def test_a_point_that_fails_is_listed_and_the_others_run(command, tmp_path, capsys):
    wrong = [*command[:2], "model.image.num_heads=4,5", "--workdir", str(tmp_path)]
    assert main(wrong) == 1
    assert "num_heads = 5" in capsys.readouterr().err
    good, bad = points(tmp_path)
    assert good["state"] == "done" and bad["state"] == "failed"
    assert "num_heads = 5" in bad["reason"]
    assert "1 done, 1 failed" in (tmp_path / "sweep.html").read_text()


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
