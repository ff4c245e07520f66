import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.runs import folder as run_folder
from tests.support.tiny_runs import read_files


def config(**changes: Any) -> ConfigDict:
    """What a folder needs of a config."""
    values: dict[str, Any] = dict(name="mine", seed=0, sizes=(1, 2), log={"x": 1})
    return ConfigDict(values | changes).lock()


def test_a_run_folder_has_the_config_as_json_and_as_text(tmp_path):
    workdir = tmp_path / "deep" / "run"
    run_folder.open_folder(config(), workdir)
    assert run_folder.load_folder(workdir) == config()
    text = (workdir / "config.yaml").read_text()
    assert text == "log:\n  x: 1\nname: mine\nseed: 0\nsizes:\n- 1\n- 2\n"
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["devices"] == "8 x cpu" and environment["jax"]
    before = read_files(workdir)
    run_folder.open_folder(config(), workdir)
    assert read_files(workdir) == before


def test_some_keys_may_change_and_the_others_are_named(tmp_path):
    run_folder.open_folder(config(), tmp_path)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    changed = config(log={"x": 2})
    run_folder.open_folder(changed, tmp_path)
    assert run_folder.load_folder(tmp_path) == changed
    with pytest.raises(ClipinError, match=r"another config \(seed: 0 there, 1 now\)"):
        run_folder.open_folder(config(seed=1), tmp_path)
    many = {f"key{number}": number for number in range(9)}
    with pytest.raises(ClipinError, match=r"key4: None there, 4 now; and 4 more\)"):
        run_folder.open_folder(config(**many), tmp_path)
    assert run_folder.load_folder(tmp_path) == changed


def test_a_run_without_a_checkpoint_may_begin_anew(tmp_path):
    run_folder.open_folder(config(), tmp_path)
    (tmp_path / "bad_records.jsonl").write_text("of the first try")
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
    run_folder.open_folder(config(seed=1), tmp_path)
    assert run_folder.load_folder(tmp_path) == config(seed=1)
    assert not (tmp_path / "bad_records.jsonl").exists()


def test_a_run_is_finished_only_with_the_same_config(tmp_path):
    assert not run_folder.is_finished(config(), tmp_path / "nowhere")
    run_folder.open_folder(config(), tmp_path)
    assert not run_folder.is_finished(config(), tmp_path)
    run_folder.write_file(tmp_path / "DONE", "")
    assert run_folder.is_finished(config(), tmp_path)
    with pytest.raises(ClipinError, match="another config"):
        run_folder.is_finished(config(name="other"), tmp_path)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ClipinError, match="no run folder: it has no config.json"):
        run_folder.load_folder(tmp_path)
    run_folder.open_folder(config(), tmp_path / "empty")
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(ClipinError, match="config.json is damaged: it holds no JSON"):
        run_folder.load_folder(tmp_path)


def test_files_are_written_atomically(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.json"
    run_folder.write_file(path, "first")
    run_folder.write_file(path, "second")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ClipinError, match="cannot write .*file.json: No space"):
            run_folder.write_file(path, "third")
    assert read_files(tmp_path) == {"folder/file.json": b"second"}


def full(self: Path, content: bytes) -> None:
    """A disk that takes the first half."""
    with self.open("wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(28, "No space left on device")
