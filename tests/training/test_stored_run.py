"""A run folder in a store: trained, resumed, read, and never half a run."""

import contextlib
import json
import shutil
import signal
import tempfile
import time
from pathlib import Path

import fsspec
import pytest

from clipin_jax import storage
from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.errors import DONE, REQUEUE, WRONG_INPUT, ClipinError
from clipin_jax.inference.build import open_run
from clipin_jax.report import write_report
from clipin_jax.runs import run_copy
from clipin_jax.runs.owner import FILE, own_folder
from clipin_jax.training.evaluate import evaluate
from clipin_jax.training.loop import train
from tests.support import tiny_runs

URL = "memory://bucket/run"
STORE = fsspec.filesystem("memory")


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """An empty store, and a folder for copies that is empty at the end."""
    STORE.store.clear()
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    yield
    STORE.store.clear()


def stored_files() -> dict[str, bytes]:
    root = "/bucket/run/"
    return {path.removeprefix(root): STORE.cat_file(path) for path in STORE.find(root)}


def put_run(folder: Path) -> None:
    """Writes the files of a run folder into the store."""
    for name, content in tiny_runs.read_files(folder).items():
        storage.write(f"{URL}/{name}", content)


def copy_to(folder: Path) -> Path:
    for name, content in stored_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def copies_left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "copies").iterdir())


def steps_stored() -> set[str]:
    files = (name.split("/") for name in stored_files())
    return {parts[1] for parts in files if parts[0] == "checkpoints"}


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    straight, config, tmp_path, capfd
):
    with tiny_runs.signal_at(3, signal.SIGTERM):
        assert train(config, URL) == REQUEUE
    assert steps_stored() == {"2", "3"}
    assert not copies_left(tmp_path)
    assert train(config, URL) == DONE
    tiny_runs.assert_same_run(config, copy_to(tmp_path / "run"), straight)
    expected = tiny_runs.read_files(straight).keys()
    plain = {name for name in expected if "checkpoints/" not in name}
    assert {n for n in stored_files() if "checkpoints/" not in n} == plain
    out, err = capfd.readouterr()
    assert f"{URL}, resumed at step 3" in out + err
    assert f"clipin report {URL}" in out + err
    assert "copies" not in out + err
    assert train(config, URL) == DONE
    assert f"{URL} is already done" in capfd.readouterr().err
    assert not copies_left(tmp_path)


def test_a_profile_is_a_file_of_the_run(capfd):
    config = tiny_runs.tiny_run(
        "total_steps=3", "optim.learning_rate.warmup_steps=1", "evals={}",
        "health_every_steps=0",
    )  # fmt: skip
    assert train(config, URL, profile="2:2") == DONE
    traces = [name for name in stored_files() if name.endswith(".xplane.pb")]
    assert len(traces) == 1
    assert traces[0].startswith("profile/plugins/profile/steps_2_2/")
    assert f"xprof --logdir {URL}/profile" in capfd.readouterr().err


def test_what_a_run_wrote_is_uploaded_while_it_trains(monkeypatch):
    seen = {}

    class Watched(tiny_runs.Progress):
        def update(self, done, values):
            super().update(done, values)
            if done == 4:  # the upload takes place between two steps
                while "checkpoints/2/manifest.json" not in stored_files():
                    time.sleep(0.02)
                seen.update(stored_files())

    monkeypatch.setattr(tiny_runs.run_log, "Progress", Watched)
    monkeypatch.setattr(run_copy, "UPLOAD_SECONDS", 0.05)
    assert train(tiny_runs.tiny_run("log.tensorboard=true"), URL) == DONE
    assert {"config.json", "metrics.jsonl", FILE} <= seen.keys()
    assert any(name.startswith("tensorboard/") for name in seen)
    assert FILE not in stored_files()


def test_checkpoints_that_are_no_longer_kept_leave_the_store(straight):
    put_run(straight)
    assert steps_stored() == {"2", "4", "6"}
    arguments = ["total_steps=9", "checkpoint.keep_last=1"]
    assert main(["train", URL, *arguments]) == DONE
    assert steps_stored() == {"4", "9"}  # 4 has the best score
    assert load_config(URL).total_steps == 9
    rows = [json.loads(line) for line in stored_files()["metrics.jsonl"].splitlines()]
    assert rows[-1]["step"] == 9


@pytest.mark.parametrize("harm", ["no manifest", "changed array"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(
    straight, config, tmp_path, harm
):
    put_run(straight)
    storage.remove(f"{URL}/DONE")
    if harm == "no manifest":
        storage.remove(f"{URL}/checkpoints/6/manifest.json")
    else:
        [array, *_] = STORE.find("/bucket/run/checkpoints/6/state/d")
        STORE.pipe_file(array, b"?" + STORE.cat_file(array)[1:])
    state, step = open_run(URL).restore()
    assert step == 4
    assert train(config, URL) == DONE
    tiny_runs.assert_same_run(config, copy_to(tmp_path / "run"), straight)


def test_a_folder_in_a_store_has_one_owner(config, tmp_path):
    with own_folder(URL), pytest.raises(ClipinError, match=f"{URL} is in use by"):
        train(config, URL)
    assert not stored_files() and not copies_left(tmp_path)


def test_a_wrong_config_leaves_nothing(tmp_path):
    with pytest.raises(ClipinError, match="batch_size"):
        train(tiny_runs.tiny_run("batch_size=1"), URL)
    assert not stored_files() and not copies_left(tmp_path)


def test_another_config_is_refused_by_the_name_of_the_store(straight, tmp_path):
    put_run(straight)
    storage.remove(f"{URL}/DONE")
    before = stored_files()
    with pytest.raises(ClipinError, match=f"^{URL} holds a run of another config"):
        train(tiny_runs.tiny_run("seed=5"), URL)
    assert stored_files() == before


def test_a_folder_of_other_files_is_not_touched(config):
    storage.write(f"{URL}/thesis.txt", b"years of work")
    with pytest.raises(ClipinError, match=f"{URL} holds files but no config.json"):
        train(config, URL)
    assert stored_files() == {"thesis.txt": b"years of work"}


def test_every_command_reads_a_run_in_a_store(straight, tmp_path, capfd):
    put_run(straight)
    assert main(["report", URL]) == DONE
    assert f"report: {URL}/report.html" in capfd.readouterr().out
    local = shutil.copytree(straight, tmp_path / "run")
    page = write_report(local, tmp_path / "page.html").read_bytes()
    assert stored_files()["report.html"] == page
    scores = evaluate(URL)
    assert scores == tiny_runs.scores(straight)
    assert json.loads(stored_files()["eval/6.json"])["scores"] == scores
    assert main(["evaluate", URL, "--step", "4"]) == DONE
    assert f"written to {URL}/eval/4.json" in capfd.readouterr().out
    assert main(["evaluate", URL, "--suite", "core", "--only", "scenes"]) == DONE
    assert "eval/6-core.json" in stored_files()
    image = ["--image", str(local / "examples" / "pair0_view1.png")]
    output = f"{URL}/maps.png"
    assert main(["explain", URL, *image, "--text", "star", "--output", output]) == DONE
    assert stored_files()["maps.png"].startswith(b"\x89PNG")


def test_a_reader_says_what_a_store_lacks(straight):
    for command in (["evaluate", URL], ["report", URL], ["train", URL]):
        assert main(command) == WRONG_INPUT
    with pytest.raises(ClipinError, match=f"{URL} is no run folder"):
        open_run(URL)
    put_run(straight)
    with pytest.raises(ClipinError, match=f"no checkpoint of step 5 in {URL}"):
        open_run(URL).restore(5)


@contextlib.contextmanager
def broken_store(monkeypatch, broken):
    """Makes the store refuse files while `broken` is not empty."""
    write = storage.Store.write

    def refuse(self, contents):
        if broken:
            raise ClipinError(f"{URL} cannot be reached: {broken[0]}")
        write(self, contents)

    with monkeypatch.context() as patch:
        patch.setattr(storage.Store, "write", refuse)
        yield


def test_a_store_that_is_away_loses_nothing(config, straight, tmp_path, monkeypatch):
    with broken_store(monkeypatch, ["no network"]):
        with pytest.raises(ClipinError, match="no network.*it is kept in") as caught:
            train(config, URL)
    [kept] = copies_left(tmp_path)
    assert str(kept) in str(caught.value)
    shutil.move(kept / "run", tmp_path / "run")
    tiny_runs.assert_same_run(config, tmp_path / "run", straight)


def test_a_store_that_comes_back_is_warned_of_once(
    config, straight, tmp_path, monkeypatch, caplog
):
    broken = ["no network"]

    class Repair(tiny_runs.Progress):
        def update(self, done, values):
            super().update(done, values)
            if done == 4:
                while "no network" not in caplog.text:
                    time.sleep(0.02)
                broken.clear()

    monkeypatch.setattr(tiny_runs.run_log, "Progress", Repair)
    monkeypatch.setattr(run_copy, "UPLOAD_SECONDS", 0.05)
    with broken_store(monkeypatch, broken):
        assert train(config, URL) == DONE
    assert caplog.text.count("it is tried again") == 1
    tiny_runs.assert_same_run(config, copy_to(tmp_path / "run"), straight)


def test_several_processes_need_a_folder_that_they_share(config, monkeypatch):
    monkeypatch.setattr(run_copy.jax, "process_count", lambda: 2)
    with pytest.raises(ClipinError, match="2 processes write one run folder"):
        train(config, URL)
