"""What `clipin launch` writes into a run folder before the run begins."""

from pathlib import Path

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.launchers import Job, make_engine, read_launch, submit
from clipin_jax.runs.folder import open_folder
from clipin_jax.runs.run_copy import working_copy
from tests.support.slurm_cluster import wait_until

RUN = "echo ready; sleep 60"


def launch(workdir: str):
    job = Job("one", ("bash", "-c", RUN), workdir, array=2)
    return submit(job, make_engine("local", "/dev/null"))


def test_a_process_of_this_machine_is_started_watched_and_stopped(tmp_path, capfd):
    run = tmp_path / "run"
    record = launch(str(run))
    assert read_launch(str(run)) == record and len(set(record.ids)) == 2
    assert "sleep 60" in (run / "launch/job.sh").read_text()
    logs = [run / "launch/log-0.txt", run / "launch/log-1.txt"]
    wait_until(lambda: all(log.read_text() == "ready\n" for log in logs), 20, "logs")
    assert main(["launch", "logs", str(run)]) == 0
    assert capfd.readouterr().out.count("ready") == 2
    assert main(["launch", "status", str(run)]) == 0
    assert "local: 2 of 2 running" in capfd.readouterr().out
    assert main(["launch", "stop", str(run)]) == 0
    capfd.readouterr()

    def ended() -> bool:
        assert main(["launch", "status", str(run)]) == 0
        return "0 of 2 running" in capfd.readouterr().out

    wait_until(ended, 20, "the end")


def test_a_run_begins_in_a_folder_that_has_a_launch(tmp_path):
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "launch.json").write_text("{}")
    open_folder(load_config("quickstart"), tmp_path)
    assert (tmp_path / "config.json").is_file()


def test_a_run_in_a_store_leaves_the_launch_there_alone(tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe_file("/launches/run/launch/launch.json", b"{}")
    with working_copy("memory://launches/run") as run:
        assert not list(Path(run.folder).iterdir())
        open_folder(load_config("quickstart"), run.folder)
    assert store.isfile("/launches/run/config.json")
    assert store.cat_file("/launches/run/launch/launch.json") == b"{}"
    store.rm("/launches", recursive=True)
