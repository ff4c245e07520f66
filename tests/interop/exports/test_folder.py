"""Exported folders are whole or not there."""

import os

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.folder import check_target, text_file, write_folder


def test_files_appear_together(tmp_path):
    seen = []

    def look(path):
        seen.append((tmp_path / "out").exists())
        path.touch()

    write_folder(tmp_path / "out", {"a": text_file("1"), "b": look})
    assert seen == [False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_folder(check_target(tmp_path / "out"), {"a": text_file("1")})
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_an_error_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ClipinError, match="cannot write .*out: No space left"):
        write_folder(tmp_path / "out", {"a": text_file("1"), "b": fail})
    assert not any(tmp_path.iterdir())


def test_files_are_for_others_too(tmp_path):
    def private(path):
        path.touch()
        path.chmod(0o600)

    write_folder(tmp_path / "out", {"a": private, "b": text_file("1")})
    modes = {os.stat(tmp_path / "out" / name).st_mode for name in "ab"}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["file", "full"])
def test_what_is_there_is_kept(tmp_path, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    with pytest.raises(ClipinError, match="is there already: name a new or empty"):
        check_target(tmp_path / name)


def test_a_url_is_refused():
    with pytest.raises(ClipinError):
        check_target("gs://bucket/out")
