"""Paths and patterns, local and remote."""

import concurrent.futures
from pathlib import Path

import fsspec
import pytest

from clipin_jax import storage
from clipin_jax.errors import ClipinError


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """A folder with a.txt, b_00.tar to b_02.tar and one subfolder."""
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("a.txt", "b_00.tar", "b_01.tar", "b_02.tar", "sub/c.tar"):
        with fsspec.open(storage.join(where, name), "wb", auto_mkdir=True) as file:
            file.write(f"this is {name}".encode())
    return where


def names(folder, pattern):
    actual = storage.expand(storage.join(folder, pattern))
    return [name.rpartition("/")[2] for name in actual]


def test_patterns(folder):
    assert names(folder, "a.txt") == ["a.txt"]
    assert names(folder, "b_{00..02}.tar") == ["b_00.tar", "b_01.tar", "b_02.tar"]
    assert names(folder, "*.tar") == ["b_00.tar", "b_01.tar", "b_02.tar"]
    assert names(folder, "**/c.tar") == ["c.tar"]


@pytest.mark.parametrize("pattern", ["none.tar", "b_{00..03}.tar", "*.zip"])
def test_missing_files_are_an_error(folder, pattern):
    with pytest.raises(ClipinError, match="no file .*(none|b_03|zip)"):
        storage.expand(storage.join(folder, pattern))


def test_reading(folder):
    path = storage.join(folder, "b_01.tar")
    assert storage.read(path) == b"this is b_01.tar"
    assert storage.read_range(path, 8, 4) == b"b_01"
    assert storage.read_range(path, 13, 100) == b"tar"
    assert storage.size(path) == 16
    assert storage.exists(path) and not storage.exists(storage.join(folder, "sub"))
    with pytest.raises(OSError):
        storage.read(storage.join(folder, "none"))
    with pytest.raises(OSError):
        storage.read_range(storage.join(folder, "none"), 0, 1)


def test_a_store_without_its_library():
    with pytest.raises(ClipinError, match="clipin_jax\\[remote\\]|cannot be reached"):
        storage.exists("s3://bucket/a.tar")


def test_many_files_in_many_threads(tmp_path):
    paths = [tmp_path / f"{number}.bin" for number in range(600)]
    for number, path in enumerate(paths):
        path.write_bytes(f"{number:05}".encode())

    def check(number):
        return int(storage.read_range(str(paths[number % 600]), 0, 5)) == number % 600

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(check, range(6000)))


@pytest.mark.parametrize("url", ["gs://bucket/run", Path("s3://bucket/run"), "gs:/b"])
def test_a_url_is_no_folder_of_a_run(url):
    with pytest.raises(ClipinError, match="is a URL.*mount of a bucket"):
        storage.local_path(url)


def test_a_tilde_is_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert storage.local_path("~/runs") == Path("/somebody/runs")
    assert storage.local_path("a:b") == Path("a:b")
