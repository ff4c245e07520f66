"""A package of other authors adds an objective, a source and an evaluator."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.report import write_report
from clipin_jax.training.evaluate import evaluate
from clipin_jax.training.loop import train
from tests.conftest import REPOSITORY
from tests.support import tiny_runs

OUTSIDE = REPOSITORY / "tests" / "outside"
SPECIES = ("owl", "robin", "wren")
UNIFORMITY = {"type": "birds_plugin.objectives:Uniformity", "weight": 0.1}
COMMAND = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
STUDY = """
def get_study(arg=None):
    run = {run!r}
    return dict(
        title="Birds",
        question="Does uniformity separate species?",
        methods={{
            "both": dict(config=run),
            "CLIP": dict(config=run, changes={{"objectives.uniformity": None}}),
        }},
        baseline="CLIP",
        metrics={{"separation/separation": "separation"}},
        seeds=[0],
        changes={{"total_steps": 2}},
    )
"""


def sightings(folder: Path, split: str = "train") -> dict[str, Any]:
    return {
        "name": "birds_plugin.sources:Sightings",
        "folder": str(folder),
        "split": split,
    }


def birds_overrides(birds: Path) -> tuple[str, ...]:
    """Returns overrides that use all three classes."""
    separation = {
        "type": "birds_plugin.evaluators:Separation",
        "every_steps": 2,
        "source": sightings(birds, "val"),
    }
    return (
        "total_steps=4",
        f"objectives.uniformity={UNIFORMITY}",
        "objectives.clipin=None",
        f"data.source={sightings(birds)}",
        "evals.retrieval=None",
        f"evals.separation={separation}",
    )


@pytest.fixture(scope="module")
def birds(tmp_path_factory) -> Path:
    """A folder that `Sightings` reads."""
    folder, rng = tmp_path_factory.mktemp("birds"), np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 16)):
        rows = []
        for number in range(count):
            species, file = SPECIES[number % 3], f"{split}{number}.png"
            image = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / file), image)
            caption = f"{species} number {number}"
            rows.append({"file": file, "caption": caption, "species": species})
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(OUTSIDE)


def test_page_shows_the_files_of_the_package():
    page = (REPOSITORY / "docs" / "guides" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    files = [
        (OUTSIDE / "birds_plugin" / f"{name}.py").read_text()
        for name in ("objectives", "sources", "evaluators")
    ]
    assert blocks == files
    assert all(len(file.splitlines()) <= 32 for file in files)


def test_trains_resumes_evaluates_and_reports(birds, on_the_path, tmp_path):
    config, folder = tiny_runs.tiny_run(*birds_overrides(birds)), tmp_path / "run"
    with tiny_runs.on_one_device():
        with tiny_runs.signal_at(3, signal.SIGTERM):
            assert train(config, folder) == REQUEUE
        assert train(config, folder) == DONE
        scores = evaluate(folder)
    assert set(scores) == {"separation/separation", "separation/chance/separation"}
    saved = json.loads((folder / "config.json").read_text())
    assert saved["objectives"]["uniformity"]["type"] == UNIFORMITY["type"]
    assert saved["objectives"]["uniformity"]["scale"] == 2.0  # the default of the class
    losses = [
        row for row in tiny_runs.metric_rows(folder) if "train/uniformity/loss" in row
    ]
    assert [row["step"] for row in losses] == [1, 2, 3, 4]
    assert all(row["train/uniformity/loss"] < 0 for row in losses)
    page = write_report([folder], tmp_path / "report.html").read_text()
    assert "separation" in page and "uniformity" in page


@pytest.mark.parametrize(
    "override, message",
    [
        ("objectives.uniformity.type=birds_plugin.objectives:Unformity", "Uniformity"),
        ("objectives.uniformity.scael=1.0", "did you mean .*scale"),
        ("evals.separation.batch=1", "did you mean .*batch_size"),
        ("data.source.splt=val", "did you mean .*split"),
        ("evals.separation.type=birds_plug.evaluators:S", "no module birds_plug"),
    ],
)
def test_wrong_names_give_one_line(birds, on_the_path, tmp_path, override, message):
    with pytest.raises(ClipinError, match=message) as error:
        train(tiny_runs.tiny_run(*birds_overrides(birds), override), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_command_with_a_folder_on_pythonpath(birds, tmp_path):
    folder, study = tmp_path / "run", tmp_path / "birds.py"
    overrides = (
        "total_steps=40",
        "log_every_steps=10",
        "evals.separation.every_steps=0",
    )
    train_command = ("train", tiny_runs.CONFIG, "--workdir", folder)
    process = start(
        *train_command, *tiny_runs.TINY, *birds_overrides(birds), *overrides
    )
    kill_at_step(process, folder, 2)
    assert not (folder / "DONE").exists()
    finish("train", folder)
    assert [row["step"] for row in tiny_runs.metric_rows(folder)][-1] == 40

    finish("evaluate", folder, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert scores == tiny_runs.scores(folder, 40)
    finish("report", folder)
    assert "separation" in (folder / "report.html").read_text()

    study.write_text(STUDY.format(run=str(folder)))
    finish("study", study, "--workdir", tmp_path / "study", "--jobs", 2)
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    values = [s["values"]["separation/separation"] for s in results["scores"]]
    assert len(values) == 2 and None not in values


def start(*arguments: object) -> subprocess.Popen:
    """Starts `clipin` with the package on PYTHONPATH."""
    path = f"{OUTSIDE}{os.pathsep}{REPOSITORY}"
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path, "XLA_FLAGS": ""},  # one device
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*arguments: object) -> None:
    """Runs `clipin`; fails unless it succeeds."""
    process = start(*arguments)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == DONE, output


def kill_at_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    """Kills the process once it has a checkpoint of the step."""
    while not (folder / "checkpoints" / str(step)).is_dir():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
