"""Folders of images with a text file beside each."""

import json
import pickle

import fsspec
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

FILES = {
    "1.jpg": b"image 1", "1.txt": b" a dog \n", "1.json": b'{"alt": "one"}',
    "2.PNG": b"image 2", "2.png.txt": b"a cat",
    "3.JPG": b"image 3", "3.TXT": b"a cow",
    "sub/1.webp": b"image 4", "sub/1.txt": b"a bee", "sub/1.json": b'{"class": 1}',
    "4.jpg": b"image 5",
    "readme.md": b"", "other.txt": b"no text of an image", ".hidden.jpg": b"",
}  # fmt: skip


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    put(where, FILES)
    return where


def put(folder, files):
    for name, content in files.items():
        with fsspec.open(
            storage.join(str(folder), name), "wb", auto_mkdir=True
        ) as file:
            file.write(content)


def open_files(folder, **cfg):
    return make_source(name="caption_files", folder=str(folder), **cfg)


def test_records(folder, caplog):
    source = open_files(folder)
    names = ["1.jpg", "2.PNG", "3.JPG", "4.jpg", "sub/1.webp"]
    assert [source.describe(n) for n in range(len(source))] == [
        storage.join(folder, name) for name in names
    ]
    captions = [source[n]["captions"] for n in (0, 1, 2, 4)]
    assert captions == [("a dog",), ("a cat",), ("a cow",), ("a bee",)]
    assert source[0]["image"] == b"image 1" and source.classes == ()
    with pytest.raises(BadRecord, match="no caption"):
        source[3]
    for index in (-1, 5):
        with pytest.raises(IndexError):
            source[index]
    assert "left out 4 files that are no images and no texts of one" in caplog.text
    assert "2 .json" in caplog.text and "1 .md" in caplog.text
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_several_texts_and_a_label(folder):
    source = open_files(
        folder, captions=("txt", "json:alt"), label="json:class", classes=("x", "y")
    )
    with pytest.raises(BadRecord, match="no label"):
        source[0]
    assert source[4]["label"] == 1 and source[4]["kinds"] == ("txt",)
    both = open_files(folder, captions=("txt", "json:alt"))
    assert both[0]["captions"] == ("a dog", "one")
    assert both.fingerprint != open_files(folder).fingerprint
    assert open_files(folder, split="sub")[0]["captions"] == ("a bee",)


@pytest.mark.parametrize(
    "cfg, message",
    [
        (dict(split="none"), "none does not exist; set source.folder"),
        (dict(captions="cap"), "no image with cap beside it; there are 5 images and 5"),
        (dict(captions="json"), "captions='json:alt'; the first sample has 'alt'"),
        (dict(classes=("a",)), "caption_files.label none"),
        (dict(captions="json:"), "captions has 'json:'"),
    ],
)
def test_wrong_arguments(folder, cfg, message):
    with pytest.raises(ClipinError, match=message):
        open_files(folder, **cfg)


def test_a_folder_without_images(tmp_path):
    put(tmp_path, {"a.txt": b"text", "b.json": json.dumps({}).encode()})
    with pytest.raises(
        ClipinError, match="has no image; there are 0 images and 1 .txt"
    ):
        open_files(tmp_path)


def test_the_fingerprint_is_of_the_names(tmp_path):
    put(tmp_path, {"1.jpg": b"x", "1.txt": b"text", "2.jpg": b"x"})
    before = open_files(tmp_path).fingerprint
    assert open_files(tmp_path).fingerprint == before
    put(tmp_path, {"2.txt": b"text"})
    assert open_files(tmp_path).fingerprint != before
