import collections
import dataclasses
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

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clipin_jax.errors import ClipinError
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_retention import Retention


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: Any
    params: Any
    target: Any


def make_state(step: int, width: int = 16) -> State:
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    whole = NamedSharding(mesh, PartitionSpec())
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((64, width), np.float32)
    params = {
        "kernel": jax.device_put(kernel, split),
        "half": jax.device_put(jnp.asarray(kernel, jnp.bfloat16), whole),
    }
    return State(jax.device_put(np.int32(step), whole), params, {})


def shapes_of(state: State) -> State:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_equal(a: State, b: State) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.sharding == y.sharding
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def latest(checkpoints: Checkpoints, abstract: Any) -> tuple[Any, dict, int]:
    restored = checkpoints.restore_latest(abstract)
    assert restored is not None
    return restored


def save_steps(folder: Path, steps: list[int], **options: Any) -> None:
    checkpoints = Checkpoints(folder, every_steps=1, keep_last=9, **options)
    for step in steps:
        assert checkpoints.save(step, make_state(step), {"position": step * 8})
    checkpoints.close()


def step_folders(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.fixture
def abstract() -> State:
    return shapes_of(make_state(0))


def test_restores_bits_shardings_and_the_data_position(tmp_path, abstract):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, every_steps=10, keep_last=2)
    assert checkpoints.restore_latest(abstract) is None
    assert checkpoints.latest_step() is None
    assert not checkpoints.save(9, make_state(9), {})
    assert checkpoints.save(10, make_state(10), {"position": 80, "seed": None})
    assert checkpoints.save(13, make_state(13), {"position": 104}, force=True)
    assert not checkpoints.save(13, make_state(13), {"position": 104}, force=True)
    checkpoints.close()

    again = Checkpoints(folder)
    state, data_state, step = latest(again, abstract)
    assert (step, data_state) == (13, {"position": 104})
    assert_equal(state, make_state(13))
    state, data_state = again.restore(10, abstract)
    assert data_state == {"position": 80, "seed": None}
    assert_equal(state, make_state(10))
    with pytest.raises(ClipinError, match="no checkpoint of step 11.*10, 13"):
        again.restore(11, abstract)
    again.close()


def test_arrays_may_be_donated_while_they_are_saved(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    zero = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    overwrite = jax.jit(
        lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0
    )
    state = make_state(3)
    checkpoints.save(3, state, {}, force=True)
    overwrite(zero(state))
    state, _, _ = latest(checkpoints, abstract)
    assert_equal(state, make_state(3))
    checkpoints.close()


def test_the_state_of_an_optimizer_is_left_out_where_none_is_asked_for(tmp_path):
    kernel = make_state(1).params["kernel"]
    state = {"params": {"kernel": kernel}, "opt_state": {"mu": kernel + 1}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {"position": 8}, force=True)
    shape = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype, sharding=kernel.sharding)
    to_use = {"params": {"kernel": shape}, "opt_state": None}
    restored, _, _ = latest(checkpoints, to_use)
    assert restored["opt_state"] is None
    np.testing.assert_array_equal(restored["params"]["kernel"], kernel)
    with pytest.raises(ClipinError, match="params/other is absent there"):
        checkpoints.restore(1, to_use | {"params": {"kernel": shape, "other": shape}})
    with pytest.raises(ClipinError, match="opt_state/nu is absent there"):
        checkpoints.restore(1, to_use | {"opt_state": {"mu": shape, "nu": shape}})
    checkpoints.close()


def test_restores_to_another_sharding(tmp_path, abstract):
    save_steps(tmp_path, [1])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    elsewhere = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), abstract
    )
    checkpoints = Checkpoints(tmp_path, read_only=True)
    state, _ = checkpoints.restore(1, elsewhere)
    assert state.params["kernel"].sharding == device
    expected = np.asarray(make_state(1).params["kernel"])
    np.testing.assert_array_equal(np.asarray(state.params["kernel"]), expected)
    checkpoints.close()


def test_keeps_the_last_few_every_so_many_and_the_best(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3, 5: float("nan"), 6: 0.4}
    options: dict[str, Any] = dict(
        every_steps=1, keep_last=2, keep_every_steps=4, best_metric="eval/score"
    )
    checkpoints = Checkpoints(tmp_path, **options)
    for step, score in scores.items():
        checkpoints.save(step, make_state(step), {})
        assert not checkpoints.has_scores(step)
        checkpoints.add_scores(step, {"eval/score": score, "eval/other": 1.0})
        assert checkpoints.has_scores(step)
    checkpoints.close()
    assert step_folders(tmp_path) == [2, 4, 5, 6]

    again = Checkpoints(tmp_path, **options)  # the best one is known after a restart
    again.save(7, make_state(7), {})
    again.add_scores(7, {"eval/score": 0.5})
    again.save(8, make_state(8), {})
    again.close()
    assert step_folders(tmp_path) == [2, 4, 7, 8]


def test_a_new_best_checkpoint_replaces_the_old_one_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, every_steps=1, best_metric="score")
    for step, score in ((1, 0.5), (2, 0.1), (3, 0.9)):
        checkpoints.save(step, make_state(step), {})
        checkpoints.add_scores(step, {"score": score})
        checkpoints.wait()
        assert step_folders(tmp_path) == {1: [1], 2: [1, 2], 3: [3]}[step]
    checkpoints.close()


def test_damaged_scores_count_as_none(tmp_path, abstract):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2" / "scores.json").write_text('{"score": ')
    checkpoints = Checkpoints(tmp_path, best_metric="score")
    assert not checkpoints.has_scores(2)
    assert latest(checkpoints, abstract)[2] == 2


def test_retention_of_the_lowest():
    retention = Retention(last=1, every_steps=0, mode="min", scores={1: 3.0, 2: 1.0})
    assert retention.kept([1, 2, 3, 4]) == {2, 4}
    assert Retention(1, 0, "max", {}, {4}).kept([3, 4]) == {3}
    with pytest.raises(ClipinError, match="keep_last is 0"):
        Retention(0, 0, "max")
    with pytest.raises(ClipinError, match="best_mode is 'best'"):
        Retention(1, 0, "best")


def test_warns_of_a_best_metric_that_is_not_measured(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, every_steps=1, best_metric="retrieval/R@1")
    checkpoints.save(1, make_state(1), {})
    checkpoints.add_scores(1, {"retrieval/R@10": 1.0})
    checkpoints.close()
    assert "did you mean 'retrieval/R@10'" in caplog.text


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


def test_the_run_folder_of_another_config_is_named(tmp_path, abstract):
    save_steps(tmp_path, [1])
    checkpoints = Checkpoints(tmp_path)
    wider = shapes_of(make_state(0, width=32))
    with pytest.raises(ClipinError) as error:
        checkpoints.restore_latest(wider)
    expected = ("another config", "params/half", "bfloat16[64, 16]", "bfloat16[64, 32]")
    assert all(part in str(error.value) for part in expected)
    more = dataclasses.replace(abstract, target={"kernel": abstract.params["kernel"]})
    with pytest.raises(ClipinError, match="target/kernel is absent there"):
        checkpoints.restore_latest(more)
    checkpoints.close()
    assert step_folders(tmp_path) == [1]


def test_read_only_leaves_a_running_save_alone(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.latest_step() == 1
    checkpoints.close()
    assert (tmp_path / "2.orbax-checkpoint-tmp").is_dir()
    writer = Checkpoints(tmp_path)
    assert writer.latest_step() == 1
    writer.save(2, make_state(2), {}, force=True)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2"]


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
from tests.runs.test_checkpoint import Checkpoints, make_state
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


def test_only_orbax_is_silenced(tmp_path, caplog):
    from absl import logging

    Checkpoints(tmp_path).close()
    logging.warning("from elsewhere")
    assert "from elsewhere" in caplog.text
