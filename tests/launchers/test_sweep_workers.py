"""Workers of a sweep on engines: what they are given, and where they cannot meet."""

import pytest
import yaml

from clipin_jax.__main__ import main

SWEEP = ("sweep", "quickstart:runlocal", "optim.weight_decay=0,0.1", "--workers", "3")
ENGINES = {
    "jobset": ("image=IMAGE", "tpu=v5e:1x1"),
    "skypilot": ("gpus=H100:1",),
    "tpu-vm": ("tpu=v5e:1x1",),
}


def submit(engine, home, *settings):
    words = [word for text in settings for word in ("--set", text)]
    return main([*SWEEP, "--on", engine, "--workdir", str(home), "--dry-run", *words])


@pytest.mark.parametrize("engine", ["jobset", "skypilot"])
def test_workers_share_a_folder_on_a_disk(engine, tmp_path, capsys):
    home = tmp_path / "sweeps" / "one"
    disk = ("disk=runs", f"disk_path={tmp_path}")
    assert submit(engine, home, *ENGINES[engine], *disk) == 0
    text = capsys.readouterr().out
    command = ["clipin", "sweep", "--worker", str(home), "--jobs", "1"]
    documents = list(yaml.safe_load_all(text))
    if engine == "jobset":
        [job] = documents[0]["spec"]["replicatedJobs"]
        pod = job["template"]["spec"]["template"]["spec"]
        assert len(documents) == 3 and pod["containers"][0]["command"] == command
        assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "runs"}
    else:
        assert " ".join(command) in documents[0]["run"]
        assert documents[0]["volumes"] == {str(tmp_path): "runs"}
    assert not home.exists()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", ["gs://bucket/one", "one"])
def test_workers_need_a_disk(engine, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert submit(engine, place, *ENGINES[engine]) != 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{engine} does not see" in error
    assert list(tmp_path.iterdir()) == []


def test_a_refused_array_leaves_nothing(tmp_path, capsys, monkeypatch):
    client = tmp_path / "bin" / "sbatch"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    home = tmp_path / "sweeps" / "one"
    assert main([*SWEEP, "--on", "slurm", "--workdir", str(home)]) != 0
    assert "invalid partition" in capsys.readouterr().err
    assert not home.parent.exists()
