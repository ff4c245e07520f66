"""Karpathy's splits: files in the layouts of COCO and Flickr, valid and invalid."""

import json
import pickle

import fsspec
import numpy as np
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_captions


def entry(name, split, *sentences, **more):
    raw = [{"raw": text, "tokens": text.split()} for text in sentences]
    return {"filename": name, "split": split, "sentences": raw, **more}


@pytest.fixture
def content():
    """Five images, one of them in another folder, one without a sentence."""
    images = [
        entry("a.jpg", "train", " a dog ", "two pets", " ", filepath="train2014"),
        entry("b.jpg", "val", "a cow", filepath="val2014"),
        entry("c.jpg", "restval", "a zebra", filepath="val2014"),
        entry("d.jpg", "train", "a cat", filepath="train2014"),
        entry("e.jpg", "train", filepath="train2014"),
    ]
    return {"images": images, "dataset": "coco"}


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path, content):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for image in content["images"]:
        path = storage.join(where, f"{image['filepath']}/{image['filename']}")
        with fsspec.open(path, "wb", auto_mkdir=True) as file:
            file.write(image["filename"].encode())
    write(where, content)
    return where


def write(folder, content, name="dataset_coco.json"):
    with fsspec.open(storage.join(str(folder), name), "wt") as file:
        file.write(json.dumps(content))


def open_karpathy(folder, **cfg):
    return make_source(name="karpathy", folder=str(folder), **cfg)


def captions_of(source):
    return [source.annotations(index)["captions"] for index in range(len(source))]


def test_images_of_a_split_have_all_their_sentences(folder, caplog):
    source = open_karpathy(folder)
    assert captions_of(source) == [("a dog", "two pets"), ("a cat",)]
    assert source[0] == {"image": b"a.jpg", "captions": ("a dog", "two pets")}
    assert source.describe(1) == storage.join(folder, "train2014/d.jpg")
    assert "left out 1 images without sentences" in caplog.text
    assert source.classes == ()
    for index in (-1, 2):
        with pytest.raises(IndexError):
            source[index]


def test_sentences_in_json(folder, content):
    content["images"][0]["sentences"] = [{"raw": '["a dog", "a cat"]'}]
    content["images"][3]["sentences"] = [{"raw": '{"caption": "a dog"}'}]
    write(folder, content)
    source = open_karpathy(folder)
    assert source[0]["captions"] == ("a dog", "a cat")
    with pytest.raises(BadRecord, match="no caption"):
        source[1]


def test_missing_images_and_null_sentences_are_bad_records(folder, content, caplog):
    content["images"][0]["filename"] = "none.jpg"
    content["images"][3]["sentences"] = [{"raw": None}, {}]
    write(folder, content)
    source = open_karpathy(folder, split="train+val")
    assert captions_of(open_karpathy(folder, split="val")) == [("a cow",)]
    assert len(source) == 3 and source[1]["captions"] == ("a cow",)
    assert "1 of 3 image files" in caplog.text
    with pytest.raises(OSError):
        source[0]
    with pytest.raises(BadRecord, match="no caption"):
        source[2]


def test_splits_are_joined_in_the_order_of_the_file(folder):
    source = open_karpathy(folder, split="train+restval")
    assert captions_of(source) == [("a dog", "two pets"), ("a zebra",), ("a cat",)]
    assert captions_of(open_karpathy(folder, split="val")) == [("a cow",)]


def test_a_test_split_of_five_captions_an_image(tmp_path):
    counts = (5, 5, 6, 7, 5)  # COCO's 5,000 have 25,010, which are cut to 25,000
    images = []
    for number, count in enumerate(counts):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
        captions = [f"image {number}, caption {place}" for place in range(count)]
        images.append(entry(f"{number}.jpg", "test", *captions))
    write(tmp_path, {"images": images})
    source = open_karpathy(tmp_path, split="test")
    captions, owner = read_captions(source, 0)
    assert len(source) == 5 and len(captions) == 28
    assert np.bincount(owner).tolist() == list(counts)
    captions, owner = read_captions(source, 5)
    assert owner.tolist() == np.repeat(np.arange(5), 5).tolist()
    assert captions[10:15] == [f"image 2, caption {place}" for place in range(5)]


def test_entries_without_a_folder_of_their_own(tmp_path):
    (tmp_path / "flickr").mkdir()
    (tmp_path / "flickr" / "x.jpg").write_bytes(b"x")
    write(tmp_path, {"images": [entry("x.jpg", "test", "a man")]}, "flickr.json")
    source = open_karpathy(tmp_path, file="flickr.json", split="test", images="flickr")
    assert source[0] == {"image": b"x", "captions": ("a man",)}


def test_fingerprint_follows_file_and_split(folder, content):
    before = open_karpathy(folder, split="train+val")
    assert open_karpathy(folder, split="val+train").fingerprint == before.fingerprint
    assert open_karpathy(folder).fingerprint != before.fingerprint
    content["images"][0]["sentences"][0]["raw"] = "a wolf"
    write(folder, content)
    assert open_karpathy(folder, split="train+val").fingerprint != before.fingerprint


def test_a_source_can_be_pickled(folder):
    source = open_karpathy(folder)
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_missing_files_are_named(folder, content):
    with pytest.raises(ClipinError, match="did you mean 'restval'"):
        open_karpathy(folder, split="train+resval")
    with pytest.raises(ClipinError, match="none.json cannot be read .*source.file"):
        open_karpathy(folder, file="none.json")
    with pytest.raises(ClipinError, match=r"2 of 2 image files .*train2014/a.jpg"):
        open_karpathy(folder, images="train2014")
    with pytest.raises(ClipinError, match="nowhere does not exist"):
        open_karpathy(folder, images="nowhere")
    content["images"] = [content["images"][-1]]
    write(folder, content)
    with pytest.raises(ClipinError, match="no image has a sentence"):
        open_karpathy(folder)


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "no JSON object"),
        ({}, "no list 'images'"),
        ({"images": []}, "'images' is empty"),
        ({"images": [{"filename": "a", "split": "x"}]}, r"\[0\] has no .*'sentences'"),
        (
            {"images": [{"filename": "a", "split": "train", "sentences": [{}]}]},
            r"images\[0\].sentences\[0\] has no valid 'raw'",
        ),
    ],
)
def test_malformed_files(tmp_path, data, message):
    write(tmp_path, data)
    with pytest.raises(ClipinError, match=message):
        open_karpathy(tmp_path)
