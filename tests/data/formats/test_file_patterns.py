"""The argument `files`: lists, folders, joined patterns, literal names."""

import json

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.errors import ClipinError
from tests.support.tars import pair, tar_of


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("a.tar", "b.tar", "c.TAR", "notes.txt", "sub/d.tar"):
        put(storage.join(where, name), name.encode())
    return where


def put(path, content):
    with fsspec.open(path, "wb", auto_mkdir=True) as file:
        file.write(content)


def found(folder, *patterns):
    paths = [storage.join(folder, p) if p else folder for p in patterns]
    actual = find_files(paths, "x.files", (".tar",))
    prefix = storage.join(folder, "")
    return [path.removeprefix(prefix).lstrip("/") for path in actual]


def test_lists_in_braces(folder):
    assert found(folder, "{a,b}.tar") == ["a.tar", "b.tar"]
    assert found(folder, "{b,sub/d}.{tar,tar}") == ["b.tar", "sub/d.tar"]
    with pytest.raises(ClipinError, match="no file .*z.tar, which .* asks for"):
        found(folder, "{a,z}.tar")


def test_a_folder_stands_for_its_files(folder):
    assert found(folder, "") == ["a.tar", "b.tar", "c.TAR"]
    assert found(folder, "sub") == ["sub/d.tar"]
    with pytest.raises(ClipinError, match=r"no name ends in .parquet; it has d.tar"):
        find_files(storage.join(folder, "sub"), "x.files", (".parquet",))


def test_patterns_joined_by_colons(folder):
    joined = f"{storage.join(folder, 'b.tar')}::{storage.join(folder, '{a,b}.tar')}"
    names = [p.rpartition("/")[2] for p in find_files(joined, "x.files", (".tar",))]
    assert names == ["b.tar", "a.tar"]


def test_the_literal_name_comes_first(tmp_path):
    (tmp_path / "set [2024]").mkdir()
    for name in ("set [2024]/a{1,2}.tar", "set [2024]/b.tar", "x::y.tar", "c*.tar"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "cc.tar").write_bytes(b"")
    where = str(tmp_path)
    for name in ("set [2024]/a{1,2}.tar", "x::y.tar", "c*.tar"):
        assert found(where, name) == [name]
    assert found(where, "set [2024]/*.tar") == [
        "set [2024]/a{1,2}.tar",
        "set [2024]/b.tar",
    ]
    assert len(found(where, "set [2024]")) == 2


def test_every_source_of_files_reads_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    row = {"image": "a.jpg", "caption": "a dog"}
    (tmp_path / "l.json").write_text(json.dumps([row]))
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "p.parquet")
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,a dog\n")
    (tmp_path / "w.tar").write_bytes(tar_of(*pair("a", "a dog")))
    columns = dict(image="image", captions="caption")
    for name, cfg in (
        ("json_list", {}), ("parquet", {}), ("table", columns), ("webdataset", {})
    ):  # fmt: skip
        source = make_source(name=name, files=str(tmp_path), **cfg)
        assert source[0]["captions"] == ("a dog",)
