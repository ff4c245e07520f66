"""Compressed files are unpacked once; wrong files are called what they are."""

import bz2
import gzip
import json
import lzma
import pickle

import pytest

from clipin_jax.data import compressed, make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from tests.support.tars import open_tars, pair, tar_of

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TABLE = b"filepath,title\na.jpg,a dog\n"


@pytest.mark.parametrize("ending", PACKERS)
def test_tars(tmp_path, ending, caplog):
    path = tmp_path / f"a.tar{ending}"
    path.write_bytes(PACKERS[ending](tar_of(*pair("0"), *pair("1"))))
    source = open_tars(str(path))
    assert len(source) == 2 and source[1]["image"] == b"image 1"
    assert caplog.text.count("unpacked to") == 1
    again = open_tars(str(tmp_path / "*"))  # neither the copy nor its index
    assert len(again) == 2 and again.fingerprint == source.fingerprint
    assert caplog.text.count("unpacked to") == 1
    path.write_bytes(PACKERS[ending](tar_of(*pair("7"))))
    assert open_tars(str(tmp_path))[0]["image"] == b"image 7"


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.TSV"])
def test_tables(tmp_path, name, ending):
    (tmp_path / "a.jpg").write_bytes(b"image")
    content = b'{"filepath": "a.jpg", "title": "a dog"}\n' if "js" in name else TABLE
    path = tmp_path / f"{name}{ending.upper()}"
    path.write_bytes(PACKERS[ending](content))
    source = make_source(name="table", files=str(path))
    assert source[0] == {"image": b"image", "captions": ("a dog",)}
    assert pickle.loads(pickle.dumps(source))[0] == source[0]
    assert make_source(name="table", files=str(tmp_path))[0] == source[0]


def test_json(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    content = json.dumps([{"image": "a.jpg", "caption": "a dog"}]).encode()
    (tmp_path / "l.json.gz").write_bytes(gzip.compress(content))
    source = make_source(name="json_list", files=str(tmp_path / "l.json.gz"))
    assert source[0]["captions"] == ("a dog",)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(TABLE))
    (tmp_path / "a.jpg").write_bytes(b"image")
    monkeypatch.setattr(compressed.tempfile, "gettempdir", lambda: str(tmp_path / "t"))
    copy = compressed._copy
    monkeypatch.setattr(
        compressed,
        "_copy",
        lambda path, packing, to: to.parent != tmp_path and copy(path, packing, to),
    )
    source = make_source(name="table", files=str(path))
    assert source[0]["image"] == b"image"  # relative to the table, not to the copy
    monkeypatch.setattr(compressed, "_copy", lambda *_: False)
    path.write_bytes(gzip.compress(TABLE * 2))
    with pytest.raises(ClipinError, match="can be unpacked neither to .* nor to"):
        make_source(name="table", files=str(path))


@pytest.mark.parametrize("cut", [40, 200])
def test_damaged_ones(tmp_path, cut):
    content = gzip.compress(tar_of(*pair("0")))
    for name, cfg in (("a.tar.gz", dict(name="webdataset")), ("t.csv.gz", {})):
        path = tmp_path / name
        path.write_bytes(content[:cut] if len(content) > cut else content[:-9])
        with pytest.raises(ClipinError, match="compressed .gzip. and damaged"):
            make_source(**dict(name="table") | cfg, files=str(path))
    assert not list(tmp_path.glob("*unpacked*"))


WRONG = {
    b"version https://git-lfs.github.com/spec/v1\noid": "a Git-LFS pointer: fetch",
    b"<!DOCTYPE html><p>404": "an HTML page: the download failed",
    b"%PDF-1.7": "a PDF document",
}


@pytest.mark.parametrize("content", WRONG)
def test_other_files_in_place_of_data(tmp_path, content):
    for name, file in (
        ("parquet", "p.parquet"), ("table", "t.csv"), ("json_list", "l.json"),
        ("webdataset", "a.tar"), ("table", "t.jsonl"),
        ("array_record", "a.array_record"),
    ):  # fmt: skip
        (tmp_path / file).write_bytes(content)
        with pytest.raises(ClipinError, match=f"but {WRONG[content]}"):
            make_source(name=name, files=str(tmp_path / file))
    for name, file in (("npz", "a.npz"), ("muge", "train_imgs.tsv")):
        (tmp_path / "train_texts.jsonl").write_bytes(b"")
        (tmp_path / file).write_bytes(content)
        where = "file" if name == "npz" else "folder"
        path = tmp_path / file if name == "npz" else tmp_path
        with pytest.raises(ClipinError, match=f"{file} is no .*but {WRONG[content]}"):
            make_source(**{"name": name, where: str(path)})
    with pytest.raises(BadRecord, match=f"no image, but {WRONG[content]}"):
        decode(content)
