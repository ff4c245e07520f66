"""Checkpoints that are damaged, cut short, or cannot be written."""

import collections
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs.checkpoint import Checkpoints
from tests.support.saved_states import (
    assert_equal,
    latest,
    make_state,
    save_steps,
    shapes_of,
    step_folders,
)


def garble(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[random.Random(0).randrange(len(data))] ^= 0x10
    path.write_bytes(data[: len(data) // 2] if how == "cut" else data)
    if how == "missing":
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "cut", "missing"])
@pytest.mark.parametrize("what", ["largest", "manifest.json"])
def test_a_damaged_checkpoint_falls_back_to_the_last_good_one(
    tmp_path, abstract, caplog, how, what
):
    save_steps(tmp_path, [1, 2, 3])
    for step in (2, 3):
        files = [p for p in (tmp_path / str(step)).rglob("*") if p.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        garble(largest if what == "largest" else tmp_path / str(step) / what, how)
    checkpoints = Checkpoints(tmp_path, every_steps=1)
    state, data_state, step = latest(checkpoints, abstract)
    assert (step, data_state) == (1, {"position": 8})
    assert_equal(state, make_state(1))
    for message in ("step 3: ", "step 2: ", "going back to the one of step 1"):
        assert message in caplog.text
    assert checkpoints.latest_step() == 1

    assert checkpoints.save(2, make_state(2), {"position": 16})
    checkpoints.close()
    assert step_folders(tmp_path) == [2]  # keep_last = 1: neither 1 nor the damaged 3
    again = Checkpoints(tmp_path)
    state, _, step = latest(again, abstract)
    assert step == 2
    assert_equal(state, make_state(2))
    again.close()


def test_without_any_good_checkpoint_it_is_an_error(tmp_path, abstract):
    save_steps(tmp_path, [1])
    shutil.rmtree(tmp_path / "1" / "state")
    checkpoints = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(ClipinError, match="every checkpoint .* is damaged .*step 1: "):
        checkpoints.restore_latest(abstract)
    with pytest.raises(ClipinError, match="cannot be read: No such file"):
        checkpoints.restore(1, abstract)
    checkpoints.close()
    with pytest.raises(ClipinError, match="does not exist"):
        Checkpoints(tmp_path / "nowhere", read_only=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipinError, match="could not be opened"):
        Checkpoints(tmp_path / "file")


def test_a_background_failure_is_raised_once(tmp_path, abstract, monkeypatch, capfd):
    save_steps(tmp_path, [1])

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints = Checkpoints(tmp_path, every_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "write_checksums", full)
        checkpoints.save(2, make_state(2), {})
        with pytest.raises(ClipinError, match="saved: the disk is full .*untouched"):
            checkpoints.save(3, make_state(3), {})
    checkpoints.close()
    assert capfd.readouterr().err == ""
    again = Checkpoints(tmp_path)
    state, _, step = latest(again, abstract)
    assert step == 1
    assert_equal(state, make_state(1))
    again.close()


def test_a_full_disk(tmp_path, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    try:
        checkpoints = Checkpoints(disk / "checkpoints", every_steps=1, keep_last=9)
        with pytest.raises(ClipinError, match="the disk is full"):
            for step in range(1, 9):
                checkpoints.save(step, make_state(step, width=4096), {})
        checkpoints.close()
        assert capfd.readouterr().err == ""
        again = Checkpoints(disk / "checkpoints")
        abstract = shapes_of(make_state(0, width=4096))
        state, _, step = latest(again, abstract)
        assert step >= 1
        assert_equal(state, make_state(step, width=4096))
        again.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


ENDLESS = """
from clipin_jax.runs.checkpoint import Checkpoints
from tests.support.saved_states import make_state
checkpoints = Checkpoints({folder!r}, every_steps=1, keep_last=2)
for step in range(1, 10000):
    checkpoints.save(step, make_state(step, width=2048), dict(position=step))
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_killed_while_saving(tmp_path, delay):
    script = ENDLESS.format(folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 4:
                break
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    checkpoints = Checkpoints(tmp_path)
    abstract = shapes_of(make_state(0, width=2048))
    state, data_state, step = latest(checkpoints, abstract)
    assert step >= 3 and data_state == {"position": step}
    assert_equal(state, make_state(step, width=2048))
    checkpoints.close()


def test_restoring_reads_and_checks_each_file_once(tmp_path, abstract, monkeypatch):
    save_steps(tmp_path, [1, 2, 3])
    array = max((tmp_path / "3" / "state").rglob("*"), key=lambda p: p.stat().st_size)
    garble(array, "cut")
    reads = collections.Counter()

    def counted(read: Any) -> Any:
        def call(path: Path) -> Any:
            reads[str(path.relative_to(tmp_path))] += 1
            return read(path)

        return call

    for name in ("file_checksum", "read_facts"):
        monkeypatch.setattr(checksums, name, counted(getattr(checksums, name)))
    checkpoints = Checkpoints(tmp_path)
    _, _, step = latest(checkpoints, abstract)
    checkpoints.close()
    assert step == 2
    files = checksums.read_facts(tmp_path / "2")["files"]
    assert set(reads) >= {"2", "3", *(f"2/{name}" for name in files)}
    reads["2"] -= 1  # by the line above
    assert set(reads.values()) == {1}
    assert not any(name.startswith("1") for name in reads)


def damage_of(folder: Path) -> str:
    with pytest.raises(checksums.DamageError) as error:
        checksums.read_verified_facts(folder)
    return str(error.value)


def test_checksums_find_damage(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "file").write_bytes(b"abc")
    assert "never finished" in damage_of(tmp_path)
    checksums.write_checksums(tmp_path, {"step": 3})
    assert checksums.read_facts(tmp_path)["step"] == 3
    assert checksums.read_verified_facts(tmp_path)["step"] == 3
    (folder / "file").write_bytes(b"abd")
    assert damage_of(tmp_path) == "state/file was changed or cut"
    for wrong in ("[]", "{}", "", json.dumps({"body": "{}", "checksum": 1})):
        (tmp_path / checksums.NAME).write_text(wrong)
        assert "cannot be read" in damage_of(tmp_path)
