"""Loggers of services with their real packages, without a network.

A run of two starts: step 2 is logged by both, and is the last one of the first start.
"""

import json
import zipfile
from pathlib import Path

import pytest

from clipin_jax.runs.loggers.base import RunFacts
from clipin_jax.runs.loggers.run_loggers import IDS, RunLoggers

# Warnings of other packages about each other.
pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG = {"optim": {"rate": 0.1, "name": "adamw"}, "size": [2, 2], "file": None}


def log_twice(folder: Path, **entry: object) -> str:
    """Logs two starts of a run as one entry of a config; returns the id."""
    ids = set()
    for first in (1, 2):
        loggers = RunLoggers({"mine": entry})
        loggers.init(RunFacts(folder, "run", CONFIG, first - 1))
        for step in (first, first + 1):
            loggers.log(step, {"train/loss": 1 / step, "bad": float("nan")})
        loggers.close()
        ids.add(json.loads((folder / IDS).read_text())["mine"])
    [run_id] = ids
    return run_id


@pytest.fixture(autouse=True)
def no_warning(caplog):
    yield
    assert "the run goes on" not in caplog.text


def test_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install 'clipin_jax[wandb]'")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_id = log_twice(tmp_path, type="wandb", offline=True, group="sweep")
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) >= 1
    files = [path for folder in folders for path in folder.glob(f"*{run_id}.wandb")]
    content = b"".join(path.read_bytes() for path in files)
    assert len(files) == 2
    for word in (b"train/loss", b"sweep", b"adamw", b"clipin_jax"):
        assert word in content


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio", reason="pip install 'clipin_jax[trackio]'")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    run_id = log_twice(tmp_path, type="trackio", group="sweep")
    assert run_id == "run" and storage.get_runs("clipin_jax") == ["run"]
    steps = [row["step"] for row in storage.get_logs("clipin_jax", "run")]
    assert steps == [1, 2, 2, 3]


def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'clipin_jax[mlflow]'")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = log_twice(tmp_path, type="mlflow", tracking_uri=uri, group="sweep")
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["group"] == "sweep"
    assert run.data.params["optim.rate"] == "0.1"
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted((item.step, item.value) for item in history) == [
        (1, 1), (2, 0.5), (2, 0.5), (3, 1 / 3)
    ]  # fmt: skip


def test_comet(tmp_path):
    pytest.importorskip("comet_ml", reason="pip install 'clipin_jax[comet]'")
    log_twice(tmp_path, type="comet", offline=True, group="sweep")
    archives = [zipfile.ZipFile(path) for path in tmp_path.glob("comet/*.zip")]
    assert len(archives) == 2
    content = b"".join(file.read(x) for file in archives for x in file.namelist())
    for word in (b"train/loss", b"sweep", b"adamw", b"clipin_jax"):
        assert word in content
