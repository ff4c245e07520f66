"""One run on two nodes of a real Slurm: stopped, or with a node lost, it ends equal."""

from pathlib import Path
from typing import Any

import pytest

from clipin_jax.commands.main import main
from clipin_jax.launchers import read_launch
from clipin_jax.runs.loggers.json_lines import read_metrics
from tests.support.slurm_cluster import SlurmCluster, wait_until
from tests.support.tiny_runs import TIMES, TINY

LAST = 120
CHANGES = (
    f"total_steps={LAST}",
    "log_every_steps=5",
    "health_every_steps=0",
    "checkpoint.every_steps=10",
    "evals.retrieval.every_steps=0",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def one_device_a_process(slurm_clients, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def start(workdir: Path) -> str:
    """Launches a run of two processes on two nodes, and returns its job."""
    words = [
        "clip:runlocal",
        *TINY,
        *CHANGES,
        "--workdir",
        str(workdir),
        "--nodes",
        "2",
    ]
    assert main(["launch", *words, "--on", "slurm", "--site", "/dev/null"]) == 0
    [job] = read_launch(str(workdir)).ids
    return job


def step_of(workdir: Path) -> int:
    rows = read_metrics(workdir) if (workdir / "metrics.jsonl").exists() else []
    return rows[-1]["step"] if rows else 0


def finish(slurm: SlurmCluster, job: str, workdir: Path) -> list[dict[str, Any]]:
    """Waits for the end of a run, and returns its metrics without times."""
    slurm.wait_for(job, "JobState", "COMPLETED", 600)
    assert (workdir / "DONE").is_file()
    rows = read_metrics(workdir)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(slurm, runs) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, slurm.environment[name])
        patch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
        return finish(slurm, start(runs / "undisturbed"), runs / "undisturbed")


def test_a_run_that_slurm_stops_is_requeued_and_ends_equal(slurm, runs, undisturbed):
    workdir = runs / "stopped"
    job = start(workdir)
    wait_until(lambda: step_of(workdir) >= 20, 240, "step 20")
    slurm.call("scancel", "--signal=TERM", job)
    rows = finish(slurm, job, workdir)
    assert slurm.fact(job, "Restarts") == "1"
    log = (workdir / f"launch/slurm-{job}.out").read_text()
    assert "clipin: saved at step" in log and "resumed at step" in log
    assert "processes 2" in log
    assert rows == undisturbed and rows[-1]["step"] == LAST


def test_a_run_that_loses_a_node_is_requeued_and_ends_equal(slurm, runs, undisturbed):
    workdir = runs / "lost"
    job = start(workdir)
    wait_until(lambda: step_of(workdir) >= 20, 240, "step 20")
    slurm.kill_node("n1")
    slurm.wait_for(job, "JobState", "PENDING", 240)
    slurm.start_node("n1")
    assert finish(slurm, job, workdir) == undisturbed
    assert slurm.fact(job, "Restarts") == "1"
