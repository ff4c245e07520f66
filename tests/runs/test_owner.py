"""One process owns a run folder; what a process left behind is taken over."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs.owner import FILE, own_folder

# Owns the folder, says so, and waits to be killed.
OWN = """
import pathlib, sys, time
from clipin_jax.runs.owner import own_folder
with own_folder(pathlib.Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(60)
"""
ELSEWHERE = dict(process=1, host="elsewhere", namespace="", started="7", since="then")


def test_the_file_names_the_owner_and_goes_with_it(tmp_path):
    folder = tmp_path / "deep" / "run"
    with own_folder(folder):
        owner = json.loads((folder / FILE).read_text())
        assert owner["process"] == os.getpid() and owner["host"]
    assert not folder.exists()  # nothing else was written
    with own_folder(folder):
        (folder / "config.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_an_error_releases_the_folder(tmp_path):
    with pytest.raises(RuntimeError), own_folder(tmp_path):
        raise RuntimeError
    with own_folder(tmp_path):
        pass


def test_a_second_owner_is_refused_at_once(tmp_path):
    with own_folder(tmp_path):
        begin = time.monotonic()
        with pytest.raises(
            ClipinError, match=f"process {os.getpid()} on host .* since"
        ):
            with own_folder(tmp_path):
                pass
        assert time.monotonic() - begin < 5
        assert (tmp_path / FILE).exists()


def test_another_process_owns_until_it_is_killed(tmp_path):
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "owned\n"
        with pytest.raises(ClipinError, match=f"in use by process {process.pid} "):
            with own_folder(tmp_path):
                pass
        process.kill()
        process.wait()
    with own_folder(tmp_path):
        owner = json.loads((tmp_path / FILE).read_text())
        assert owner["process"] == os.getpid()


def test_a_number_that_was_given_again_is_not_the_owner(tmp_path):
    with own_folder(tmp_path):
        owner = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(owner | {"started": "1"}))
    with own_folder(tmp_path):
        pass


@pytest.mark.parametrize("content", [json.dumps(ELSEWHERE), "", "{half of"])
def test_a_silent_owner_on_another_host_is_replaced(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    begin = time.monotonic()
    with own_folder(tmp_path, stale=0.3):
        assert time.monotonic() - begin >= 0.3
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_an_owner_on_another_host_that_writes_is_alive(tmp_path):
    path, stop = tmp_path / FILE, threading.Event()

    def write() -> None:
        for beat in range(1000):
            temporary = tmp_path / "temporary"
            temporary.write_text(json.dumps(ELSEWHERE | {"beat": beat}))
            temporary.replace(path)
            if stop.wait(0.05):
                return

    path.write_text(json.dumps(ELSEWHERE))
    thread = threading.Thread(target=write)
    thread.start()
    try:
        with pytest.raises(ClipinError, match="process 1 on host elsewhere since then"):
            with own_folder(tmp_path, stale=20.0):
                pass
    finally:
        stop.set()
        thread.join()


def test_the_owner_writes_again_and_again(tmp_path):
    with own_folder(tmp_path, beat=0.05):
        end = time.monotonic() + 10
        while not json.loads((tmp_path / FILE).read_text())["beat"]:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_one_of_many_wins(tmp_path):
    (tmp_path / FILE).write_text(json.dumps(ELSEWHERE))
    results, release = [], threading.Event()

    def take() -> None:
        try:
            with own_folder(tmp_path, stale=0.2):
                results.append("owner")
                release.wait(20)
        except ClipinError:
            results.append("refused")

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while len(results) < 8 and time.monotonic() < end:
        time.sleep(0.05)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["owner"] + ["refused"] * 7


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipinError, match="cannot write .*choose another --workdir"):
        with own_folder(tmp_path / "file" / "run"):
            pass
