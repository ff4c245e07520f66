"""Scripts of `clipin launch` on a real Slurm, with a shell script in clipin's place."""

import json
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.errors import ClipinError
from clipin_jax.launchers import Job, Launch, make_engine, submit
from tests.support.slurm_cluster import wait_until

# Notes its start, and ends with 75 after SIGTERM; from its second start on, with 0.
WORKER = """
echo "$SLURM_PROCID of $SLURM_NTASKS at $JAX_COORDINATOR_ADDRESS" >> "$0.starts"
[ "$(grep -c "^$SLURM_PROCID of" "$0.starts")" -gt 1 ] && exit 0
trap 'exit 75' TERM
while true; do sleep 0.1; done
"""


@pytest.fixture
def worker(tmp_path) -> Path:
    path = tmp_path / "worker"
    path.write_text(WORKER)
    return path


def start(worker: Path, *settings: str, array: int = 1) -> Launch:
    command = ("bash", str(worker))
    job = Job("one", command, str(worker.parent / "run"), array)
    return submit(job, make_engine("slurm", "/dev/null", settings))


def starts(worker: Path) -> list[str]:
    path = Path(f"{worker}.starts")
    return path.read_text().splitlines() if path.exists() else []


def test_a_job_that_saved_is_requeued_and_goes_on(slurm_clients, worker, capfd):
    launch = start(worker, "nodes=2")
    [job] = launch.ids
    wait_until(lambda: len(starts(worker)) == 2, 30, "two processes")
    assert main(["launch", "status", launch.workdir]) == 0
    assert f"slurm: {job} RUNNING on n[0-1], submitted 20" in capfd.readouterr().out
    with pytest.raises(ClipinError, match="has a job on slurm .*RUNNING"):
        start(worker)
    slurm_clients.call("scancel", "--signal=TERM", job)
    slurm_clients.wait_for(job, "JobState", "COMPLETED", 60)
    assert slurm_clients.fact(job, "Restarts") == "1"
    address = f"127.0.0.1:{61440 + int(job) % 4096}"
    expected = [f"{process} of 2 at {address}" for process in (0, 0, 1, 1)]
    assert sorted(starts(worker)) == expected
    assert main(["launch", "logs", launch.workdir]) == 0
    assert "Exited with exit code 75" in capfd.readouterr().out
    record = json.loads((worker.parent / "run/launch/launch.json").read_text())
    assert record["ids"] == [job] and record["engine"] == "slurm"
    assert record["settings"] == {"nodes": 2}


@pytest.mark.parametrize("how", ["clipin launch stop", "scancel"])
def test_a_job_that_is_stopped_saves_and_is_not_requeued(slurm_clients, worker, how):
    launch = start(worker)
    [job] = launch.ids
    wait_until(lambda: starts(worker), 30, "a process")
    if how == "scancel":
        slurm_clients.call("scancel", job)
        slurm_clients.wait_for(job, "JobState", "CANCELLED", 60)
    else:
        assert main(["launch", "stop", launch.workdir]) == 0
        slurm_clients.wait_for(job, "JobState", "FAILED", 60)
        assert slurm_clients.fact(job, "ExitCode") == "75:0"
    assert slurm_clients.fact(job, "Restarts") == "0"
    assert len(starts(worker)) == 1
    assert main(["launch", "status", launch.workdir]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("code, count", [(1, 3), (78, 1), (2, 1)])
def test_failures_are_tried_again_but_wrong_input_is_not(
    slurm_clients, tmp_path, code, count
):
    worker = tmp_path / "worker"
    worker.write_text(f'echo >> "$0.starts"\nexit {code}\n')
    [job] = start(worker, "restarts=2").ids
    slurm_clients.wait_for(job, "JobState", "FAILED", 90)
    assert slurm_clients.fact(job, "ExitCode") == f"{code}:0"
    assert len(starts(worker)) == count


@pytest.mark.slow
def test_each_job_of_an_array_is_requeued_alone(slurm_clients, tmp_path):
    worker = tmp_path / "worker"
    worker.write_text(
        'echo "start of $SLURM_ARRAY_TASK_ID"\ntrap "exit 75" TERM\n'
        'until [ -e "$0.end" ]; do sleep 0.1; done\n'
    )
    launch = start(worker, array=4)
    [job] = launch.ids
    logs = [Path(launch.path(f"slurm-{job}_{n}.out")) for n in range(4)]

    def counts() -> list[int]:
        return [
            log.read_text().count("start of") if log.exists() else 0 for log in logs
        ]

    wait_until(lambda: counts() == [1, 1, 1, 1], 30, "four starts")
    for number in (3, 1):  # the array's number is that of one of them
        slurm_clients.call("scancel", "--signal=TERM", f"{job}_{number}")
    wait_until(lambda: counts() == [1, 2, 1, 2], 60, "two more starts")
    assert main(["launch", "logs", launch.workdir]) == 0
    Path(f"{worker}.end").touch()
    wait_until(lambda: not slurm_clients.call("squeue", "-h"), 30, "the end")
    assert counts() == [1, 2, 1, 2]


def test_a_refusal_of_slurm_is_one_line_and_leaves_nothing(
    slurm_clients, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = ["quickstart", "--on", "slurm", "--workdir", "runs/one"]
    assert main(["launch", *words, "--set", "partition=nope"]) != 0
    error = capsys.readouterr().err
    assert error == (
        "clipin: error: sbatch: invalid partition specified: nope; Batch job "
        "submission failed: Invalid partition name specified\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_time_limit_of_slurm_is_not_the_end(slurm_clients, worker):
    [job] = start(worker, "time=1", "grace=20").ids
    slurm_clients.wait_for(job, "JobState", "COMPLETED", 180)
    assert slurm_clients.fact(job, "Restarts") == "1"
    assert len(starts(worker)) == 2
