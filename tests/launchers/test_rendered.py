"""What engines are given, as text for a reviewer: tests/launchers/rendered.

CLIPIN_JAX_WRITE_RENDERED=1 writes the files anew.
"""

import os
from pathlib import Path

import pytest

from clipin_jax.launchers import Job, make_engine, render

FOLDER = Path(__file__).parent / "rendered"
TRAIN = ("clipin", "train", "clip:data=gs://bucket/coco", "total_steps=20_000")
SHARED = "/shared/runs/first run"
STORED = "gs://bucket/runs/one"
JOBS = {
    "local": ("local", SHARED, 1, []),
    "slurm_one_node": (
        "slurm", SHARED, 1,
        ["setup=source '/shared/my venv/bin/activate'", "gpus=4", "time=2:00:00"],
    ),
    "slurm_nodes": (
        "slurm", SHARED, 1,
        ["nodes=2", "gpus=8", "cpus_per_task=12", "account=vision", "partition=gpu",
         "time=12:00:00", "options=--exclusive --licenses=nas@here",
         "container_image=registry#team/clipin:1", "container_mounts=/shared:/shared"],
    ),
    "slurm_one_task_a_node": (
        "slurm", SHARED, 1,
        ["nodes=2", "gpus=4", "tasks_per_node=1", "coordinator=10.0.0.1",
         "setup=module load cuda\nsource venv/bin/activate"],
    ),
    "slurm_array": ("slurm", SHARED, 4, ["setup=true", "memory=64G"]),
    "jobset_one_host": (
        "jobset", STORED, 1, ["image=IMAGE", "tpu=v6e:2x2", "service_account=trainer"],
    ),
    "jobset_slices": (
        "jobset", STORED, 1,
        ["image=IMAGE", "tpu=v5e:4x4", "slices=2", "queue=team", "priority=low",
         "spot=true", "cluster=c1", "project=p1", "zone=us-central1-a"],
    ),
    "jobset_array": ("jobset", STORED, 2, ["image=IMAGE", "tpu=v5e:1x1"]),
    "jobset_disk": (
        "jobset", "/disk/sweeps/one", 2, ["image=IMAGE", "tpu=v5e:1x1", "disk=runs"],
    ),
    "tpu_vm_one_host": (
        "tpu-vm", STORED, 1, ["project=p1", "zone=us-east5-b", "tpu=v6e:2x4"],
    ),
    "tpu_vm_slices": (
        "tpu-vm", STORED, 1,
        ["project=p1", "zone=us-east5-b", "tpu=v5p:2x2x4", "slices=2", "spot=false",
         "network=net1", "service_account=trainer@p1.iam.gserviceaccount.com"],
    ),
    "skypilot_nodes": ("skypilot", STORED, 1, ["gpus=H100:8", "nodes=2"]),
    "skypilot_disk": (
        "skypilot", "/disk/sweeps/one", 1, ["gpus=H100:1", "disk=runs"],
    ),
    "skypilot_tpu": (
        "skypilot", STORED, 1,
        ["tpu=v6e:2x4", "infra=gcp/us-east5", "spot=false", "restarts=3",
         "install=clipin_jax[tpu,remote]"],
    ),
}  # fmt: skip


def rendered(name: str, monkeypatch) -> dict[str, str]:
    """Returns the text of each file of a job."""
    monkeypatch.setattr("sysconfig.get_path", lambda key: f"/venv/{key}")
    engine, workdir, array, settings = JOBS[name]
    job = Job("one", (*TRAIN, "--workdir", workdir), workdir, array)
    files = render(job, make_engine(engine, os.devnull, settings))
    return {f"{name}.{file}": text for file, text in files.items()}


@pytest.mark.parametrize("name", JOBS)
def test_engines_are_given_these_files(name, monkeypatch):
    files = rendered(name, monkeypatch)
    if os.environ.get("CLIPIN_JAX_WRITE_RENDERED"):
        for file, text in files.items():
            (FOLDER / file).write_text(text)
    assert {path.name for path in FOLDER.glob(f"{name}.*")} == set(files)
    for file, text in files.items():
        assert text == (FOLDER / file).read_text()


def test_every_file_is_of_a_job():
    assert {path.name.partition(".")[0] for path in FOLDER.iterdir()} == set(JOBS)
