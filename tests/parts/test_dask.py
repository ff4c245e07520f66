"""`--on dask`: the files of one process, whoever makes them and whoever is lost."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from clipin_jax.commands.main import main
from clipin_jax.datatools import scan_job
from clipin_jax.datatools.check import check
from clipin_jax.datatools.conversion.convert import convert
from clipin_jax.datatools.conversion.job import conversion_work
from clipin_jax.datatools.conversion.shards import ShardWriter
from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.parts import dask_runner
from clipin_jax.parts.run import How
from tests.support.pair_folders import pair_config, pair_folder

COUNT = 24
FILES = {f"train-0000{n}-of-00006.array_record" for n in range(6)}

# Dask and tornado leave sockets to the garbage collector when they end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Six files of four records."""
    captions = [[f"caption {n % 7}"] for n in range(COUNT)]
    folder = pair_folder(tmp_path_factory.mktemp("dask") / "pairs", captions)
    return pair_config(folder)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    run(config, folder)
    return content(folder)


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers in threads of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def run(config, out, on="", workers=None, code=DONE):
    lines: list[str] = []
    how = How(on=on, workers=workers)
    assert code == convert(
        config, out, records_per_file=4, how=how, print_line=lines.append
    )
    return "\n".join(lines)


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def written(monkeypatch):
    """The numbers of the files that are written, whoever does it."""
    numbers: list[int] = []
    write = ShardWriter.write

    def note(self, number, draft):
        numbers.append(number)
        return write(self, number, draft)

    monkeypatch.setattr(ShardWriter, "write", note)
    return numbers


def test_a_running_scheduler_makes_each_file_once(
    config, whole, tmp_path, address, written, capsys
):
    run(config, tmp_path / "out", f"dask:{address}")
    assert content(tmp_path / "out") == whole
    assert sorted(written) == list(range(6))
    assert "6/6" in capsys.readouterr().err


def test_ctrl_c_leaves_the_rest_to_the_same_command(
    config, whole, tmp_path, address, written, monkeypatch
):
    out, on = tmp_path / "out", f"dask:{address}"

    def stop(self, n=1):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dask_runner.tqdm, "update", stop)
        assert "run the same command to resume" in run(config, out, on, code=REQUEUE)
    assert not (out / "manifest.json").exists()
    time.sleep(0.2)  # a worker may finish its file
    done = [
        n for n in range(6) if (out / f"train-0000{n}-of-00006.array_record").exists()
    ]
    assert done
    written.clear()
    run(config, out, on)
    assert content(out) == whole and not set(written) & set(done)


def test_an_error_of_the_data_is_one_line_and_not_tried_again(
    config, tmp_path, address, written, monkeypatch
):
    def fail(self, path, digests):
        raise ClipinError("record 2 is not what was written")

    monkeypatch.setattr(ShardWriter, "_verify", fail)
    with pytest.raises(ClipinError, match="^record 2 is not what was written$"):
        run(config, tmp_path / "out", f"dask:{address}")
    assert len(set(written)) == len(written)


def test_an_error_of_the_disk_is_tried_again(
    config, whole, tmp_path, address, monkeypatch
):
    write, failures = ShardWriter.write, [28, 5]

    def fail(self, number, draft):
        if number == 3 and failures:
            raise OSError(failures.pop(), "The disk is away")
        return write(self, number, draft)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", fail)
        run(config, tmp_path / "out", f"dask:{address}")
        assert content(tmp_path / "out") == whole and not failures
        failures += [28] * 9
        with pytest.raises(ClipinError, match="The disk is away; fix this and run"):
            run(config, tmp_path / "other", f"dask:{address}")


@pytest.mark.parametrize(
    "error, message",
    [
        (ImportError("No module named 'x'"), "lack a package .*: No module named 'x'"),
        (
            OSError("Stream is closed"),
            r"lost the work \(OSError: Stream is closed\): r",
        ),
        (ConnectionResetError(104, "Reset"), "lost the work .* to resume"),
    ],
)
def test_errors_of_dask_itself(config, tmp_path, address, monkeypatch, error, message):
    def fail(self, number, draft):
        raise error

    monkeypatch.setattr(ShardWriter, "write", fail)
    with pytest.raises(ClipinError, match=message):
        run(config, tmp_path / "out", f"dask:{address}")


def test_what_is_sent_can_be_read_without_this_package(config, tmp_path):
    from distributed.protocol.pickle import dumps

    work = conversion_work(config, tmp_path / "out")
    sent = dumps(dask_runner._self_contained(work))
    code = (
        "import sys; sys.modules['clipin_jax'] = None\n"
        "make = __import__('pickle').loads(sys.stdin.buffer.read())\n"
        "try: make(0)\n"
        "except ImportError: print('told')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=sent, capture_output=True, check=False
    )
    assert done.stdout == b"told\n", done.stderr


def test_a_folder_that_workers_do_not_see(config, tmp_path, address, monkeypatch):
    def is_missing(self):
        raise ClipinError("it was not begun on host7")

    monkeypatch.setattr("clipin_jax.parts.folder.ShardFolder.check_begun", is_missing)
    with pytest.raises(ClipinError, match="not begun on host7"):
        run(config, tmp_path / "out", f"dask:{address}")


def test_the_figures_of_a_check(config, tmp_path, address, monkeypatch):
    monkeypatch.setattr(scan_job, "_LEAST", 5)
    figures = []
    for arguments in ({}, dict(folder=tmp_path / "f", how=How(on=f"dask:{address}"))):
        file = tmp_path / "figures.json"
        check(config, records=0, json_file=file, print_line=str, **arguments)
        figures.append(json.loads(file.read_text()) | dict(speed=None))
    assert figures[0] == figures[1]


def is_worker(process):
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def test_killed_workers_of_this_machine_change_nothing(config, whole, tmp_path, capsys):
    """Real processes: two of them get SIGKILL while they work."""
    out, killed, ended = tmp_path / "out", [], threading.Event()

    def kill():
        while len(killed) < 2 and not ended.wait(0.01):
            done = len(list(out.glob("*.array_record")))
            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if is_worker(child) and child.pid not in killed
            ]
            if workers and done > 2 * len(killed):
                os.kill(workers[-1].pid, signal.SIGKILL)
                killed.append(workers[-1].pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        run(config, out, "dask", workers=2)
    finally:
        ended.set()
        thread.join()
    assert killed and content(out) == whole
    assert "Traceback" not in capsys.readouterr().err


def test_a_cluster_of_another_package(config, whole, tmp_path, monkeypatch):
    from distributed import LocalCluster

    sizes = []

    class Cluster(LocalCluster):
        def __init__(self):
            super().__init__(n_workers=0, processes=False, dashboard_address=":0")

        def scale(self, n=None, *_, **__):
            sizes.append(n)
            return super().scale(n)

    module = SimpleNamespace(SLURMCluster=Cluster)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    run(config, tmp_path / "out", "dask:slurm", workers=2)
    assert content(tmp_path / "out") == whole and 2 in sizes

    def fail():
        raise ValueError("you must set the queue\nin jobqueue.yaml")

    module.SLURMCluster = fail
    with pytest.raises(
        ClipinError, match="ValueError: you must set the queue; see its"
    ):
        run(config, tmp_path / "other", "dask:slurm")


@pytest.mark.parametrize(
    "on, missing, message",
    [
        ("dask", "distributed", r"package dask: pip install 'clipin_jax\[dask\]'"),
        ("dask:slurm", "dask_jobqueue", "package dask-jobqueue: pip install"),
        ("dask:kubernetes", "dask_kubernetes", "package dask-kubernetes: pip install"),
    ],
)
def test_a_package_that_is_missing(config, tmp_path, monkeypatch, on, missing, message):
    load = importlib.import_module

    def find(name, *arguments):
        if name.startswith(missing):
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", find)
    with pytest.raises(ClipinError, match=message):
        run(config, tmp_path / "out", on)


def test_where_nobody_listens(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dask_runner, "_CONNECT", 0.5)
    argv = ["data", "convert", f"clip:data={config.data.source.folder}"]
    argv += [str(tmp_path / "out"), "--on", "dask:tcp://127.0.0.1:9"]
    start = time.monotonic()
    assert main(argv) == 1
    assert time.monotonic() - start < 8
    [line] = capsys.readouterr().err.splitlines()
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in line
