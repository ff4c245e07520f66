import json
import os
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config, to_json

STORED = "gs://bucket/runs/one"


@pytest.fixture(autouse=True)
def without_site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def launch(*words: str) -> int:
    return main(["launch", *words])


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_dry_run_prints_the_job_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")  # needs no client
    words = ("quickstart", "total_steps=9", "--on", "slurm", "--workdir", "runs/one")
    assert launch(*words, "--nodes", "2", "--set", "account=a", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "#SBATCH --nodes=2\n" in out and "#SBATCH --account=a\n" in out
    assert f"total_steps=9 --workdir {tmp_path}/runs/one\n" in out
    assert f"--output={tmp_path}/runs/one/launch/slurm-%j.out" in out
    assert files_below(tmp_path) == set()


def test_a_run_folder_is_resumed_in_place(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text(to_json(load_config("quickstart")))
    assert launch("one", "--on", "local", "--dry-run") == 0
    folder = f"{tmp_path}/one"
    assert f" train {folder} --workdir {folder}\n" in capsys.readouterr().out


WRONG = {
    "give an engine: --on local|slurm": ["quickstart"],
    "--on is 'slrum': did you mean 'slurm'?": ["quickstart", "--on", "slrum"],
    "give the run's folder: --workdir": ["quickstart", "--on", "slurm"],
    "no config 'quickstrat'": ["quickstrat", "--on", "slurm", "--workdir", "w"],
    "no config key 'totl_steps'": [
        "quickstart", "totl_steps=1", "--on", "slurm", "--workdir", "w",
    ],
    "slurm has no setting 'acount'": [
        "quickstart", "--on", "slurm", "--workdir", "w", "--set", "acount=a",
    ],
    "jobset has no setting 'gpus'": ["quickstart", "--on", "jobset", "--gpus", "8"],
    "no program sbatch here: login nodes": [
        "quickstart", "--on", "slurm", "--workdir", "w",
    ],
    "no program kubectl here: gcloud components": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
        "--set", "tpu=v5e:2x2",
    ],
    "w is a folder of this machine, which jobset cannot reach: give a folder in a": [
        "quickstart", "--on", "jobset", "--workdir", "w", "--set", "image=i",
        "--set", "tpu=v5e:2x2",
    ],
    "mesh.dcn is 1: add mesh.dcn=2": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
        "--set", "tpu=v5e:4x4", "--set", "slices=2",
    ],
    "jobset.tpu is 'v5e:3x3': topologies of v5e are 1x1, 2x2,": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
        "--set", "tpu=v5e:3x3",
    ],
    "jobset.tpu is 'v5x:4x4': give a chip and a topology": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
        "--set", "tpu=v5x:4x4",
    ],
    "jobset.tpu is missing": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
    ],
    "jobset.image is missing": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "tpu=v5e:2x2",
    ],
    "does not divide the 4 chips": [
        "quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i",
        "--set", "tpu=v5e:2x2", "--set", "chips_per_host=8",
    ],
    "4 processes of jobset share a folder": [
        "quickstart", "--on", "jobset", "--workdir", "s3://bucket/one", "--set",
        "image=i", "--set", "tpu=v5e:4x4",
    ],
    "tpu-vm.project is missing": [
        "quickstart", "--on", "tpu-vm", "--workdir", STORED, "--set", "tpu=v5e:2x2",
    ],
    "there are no TPU VMs of tpu7x": [
        "quickstart", "--on", "tpu-vm", "--workdir", STORED, "--set", "tpu=tpu7x:2x2x1",
        "--set", "project=p", "--set", "zone=z",
    ],
    "give either skypilot.gpus or skypilot.tpu": [
        "quickstart", "--on", "skypilot", "--workdir", STORED,
    ],
    "slurm.tasks_per_node is 3 with 8 GPUs": [
        "quickstart", "--on", "slurm", "--workdir", "w", "--gpus", "8", "--set",
        "tasks_per_node=3",
    ],
    "--plan does not know the chips of slurm": [
        "quickstart", "--on", "slurm", "--workdir", "w", "--plan",
    ],
    "--processes is for --on local": [
        "quickstart", "--on", "slurm", "--workdir", "w", "--processes", "2",
    ],
    "w was not started by `clipin launch`": ["status", "w"],
    "give one folder: clipin launch stop RUN": ["stop"],
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert launch(*WRONG[words]) != 0
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1
    assert captured.err.startswith("clipin: error: ")
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize(
    "code, words", [(0, ""), (1, "does not fit 2xv5e:4x4"), (78, "has no plan for")]
)
def test_a_plan_comes_before_the_job(tmp_path, capfd, monkeypatch, code, words):
    planner = tmp_path / "python"
    planner.write_text(f'#!/bin/sh\necho "$*"\nexit {code}\n')
    planner.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(planner))
    slices = ("--set", "tpu=v5e:4x4", "--set", "slices=2", "mesh.dcn=2")
    job = ("quickstart", "--on", "jobset", "--workdir", STORED, "--set", "image=i")
    assert (launch(*job, *slices, "--plan", "--dry-run") == 0) == (code == 0)
    captured = capfd.readouterr()
    assert bool(captured.out) == (code == 0)
    plan, *error = captured.err.splitlines()
    expected = "-m clipin_jax plan quickstart mesh.dcn=2 --on 2xv5e:4x4 --quick"
    assert plan == expected and words in "".join(error)


def test_a_config_file_of_this_machine_is_not_for_a_cloud(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg):\n    return ConfigDict(dict(name='mine'))\n"
    )
    words = ("--workdir", STORED, "--set", "tpu=v5e:2x2", "--set", "image=i")
    assert launch("mine.py", "--on", "jobset", *words) != 0
    assert "config mine.py is a file of this machine" in capsys.readouterr().err


def test_a_damaged_record_is_named(tmp_path, capsys):
    (tmp_path / "launch").mkdir()
    for text in ("{", "[]", "{}", json.dumps({"engine": "slurm"})):
        (tmp_path / "launch" / "launch.json").write_text(text)
        assert launch("status", str(tmp_path)) != 0
        err = capsys.readouterr().err
        assert f"cannot read {tmp_path}/launch/launch.json" in err
        assert err.count("\n") == 1


def test_a_refusal_of_the_client_is_one_line_and_leaves_nothing(
    tmp_path, capsys, monkeypatch
):
    client = tmp_path / "bin" / "sbatch"
    client.parent.mkdir()
    client.write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: nope' >&2\n"
        "echo 'sbatch: error: Batch job submission failed' >&2\nexit 1\n"
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)
    before = files_below(tmp_path)
    assert launch("quickstart", "--on", "slurm", "--workdir", "runs/one") != 0
    message = "sbatch: invalid partition specified: nope; Batch job submission failed"
    assert capsys.readouterr().err == f"clipin: error: {message}\n"
    assert files_below(tmp_path) == before
