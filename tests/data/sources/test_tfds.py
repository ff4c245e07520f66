"""Prepared tensorflow-datasets folders, read without TensorFlow."""

import io
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

N = 12
READ = """
import sys
from clipin_jax.data import make_source
source = make_source(name="tfds", folder=sys.argv[1], captions="captions/text")
assert source[0]["captions"]
assert "tensorflow" not in sys.modules and "torch" not in sys.modules
"""


def prepare(folder):
    """Writes a data set as tensorflow-datasets would, which needs TensorFlow."""
    import tensorflow_datasets as library
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    kinds = library.features
    features = kinds.FeaturesDict(
        {
            "image": kinds.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "pixels": kinds.Tensor(shape=(4, 5, 3), dtype=np.uint8),
            "captions": kinds.Sequence({"text": kinds.Text()}),
            "title": kinds.Text(),
            "label": kinds.ClassLabel(names=["cat", "dog"]),
            "tags": kinds.Sequence(kinds.ClassLabel(names=["x", "y", "z"])),
        }
    )
    features.save_config(str(folder))
    serializer = ExampleSerializer(features.get_serialized_info())
    records = [
        serializer.serialize_example(features.encode_example(example(number)))
        for number in range(N)
    ]
    for shard, part in enumerate((records[:7], records[7:])):
        path = folder / f"pets-train.array_record-{shard:05}-of-00002"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in part:
            writer.write(record)
        writer.close()
    describe(folder, [7, N - 7], sum(map(len, records)))


def example(number):
    image = np.full((10 + number, 20, 3), 10 * number, np.uint8)
    return {
        "image": io.BytesIO(cv2.imencode(".jpg", image)[1].tobytes()),
        "pixels": image[:4, :5],
        "captions": [{"text": f"first {number}"}, {"text": "café"}],
        "title": f"title {number}",
        "label": number % 2,
        "tags": [0, 2] if number else [],
    }


def describe(folder, lengths, size, kind="array_record"):
    split = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "shardLengths": [str(length) for length in lengths],
        "numBytes": str(size),
    }
    info = {"name": "pets", "version": "1.0.0", "fileFormat": kind, "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pets" / "1.0.0"
    folder.mkdir(parents=True)
    prepare(folder)
    return folder


def open_tfds(folder, captions="captions/text", **cfg):
    return make_source(name="tfds", folder=str(folder), captions=captions, **cfg)


def test_records(folder):
    source = open_tfds(folder, label="label")
    assert len(source) == N and source.classes == ("cat", "dog")
    record = source[8]
    assert isinstance(record["image"], bytes)
    assert decode(record["image"]).shape == (18, 20, 3)
    assert record["captions"] == ("first 8", "café") and record["label"] == 0
    assert source.annotations(9) == {"captions": ("first 9", "café"), "label": 1}
    assert "example 9 of split 'train'" in source.describe(9)
    with pytest.raises(IndexError):
        source[N]


def test_other_features_and_splits(folder):
    source = open_tfds(folder, "title", image="pixels", label="tags", split="train[:5]")
    assert len(source) == 5 and source.classes == ("x", "y", "z")
    record = source[3]
    assert record["captions"] == ("title 3",) and record["label"] == [0, 2]
    assert record["image"].shape == (4, 5, 3) and (record["image"] == 30).all()
    assert len(open_tfds(folder, split="train[:2]+train[10:]")) == 4
    assert source.fingerprint != open_tfds(folder).fingerprint
    assert open_tfds(folder).fingerprint == open_tfds(folder).fingerprint


def test_an_object_is_no_caption_and_a_list_is_several(folder, monkeypatch):
    source = open_tfds(folder, "title")
    for title, expected in (('["a", "b"]', ("a", "b")), ('{"a": 1}', None)):
        monkeypatch.setattr(
            source, "_examples", [{"image": b"", "title": title.encode()}]
        )
        if expected:
            assert source[0]["captions"] == expected
            continue
        with pytest.raises(BadRecord, match="title: a JSON object with the keys 'a'"):
            source.annotations(0)


def test_records_without_a_class_are_bad(folder, monkeypatch):
    source = open_tfds(folder, "title", label="label")
    for label in (-1, 2):  # -1 is that of an unlabelled test split
        values = {"image": b"", "title": b"a cat", "label": label}
        monkeypatch.setattr(source, "_examples", [values])
        with pytest.raises(BadRecord, match=f"label {label} is none of 2 classes"):
            source.annotations(0)


def test_without_tensorflow(folder, repository):
    subprocess.run(
        [sys.executable, "-c", READ, str(folder)], check=True, cwd=repository
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(split="trian"), "did you mean 'train'"),
        (dict(split="train[:x]"), "split 'train\\[:x\\]' of .* cannot be read"),
        (dict(captions="caption"), "no feature 'caption'"),
        (dict(captions="captions/words"), "'words' is not among \\['text'\\]"),
        (dict(captions="label"), "'label' .* is not text, but ClassLabel"),
        (dict(captions="image"), "is not text"),
        (dict(image="title"), "is not an image"),
        (dict(label="title"), "is not a class label"),
        (dict(lable="label"), "did you mean 'label'"),
    ],
)
def test_wrong_arguments(folder, wrong, message):
    with pytest.raises(ClipinError, match=message):
        open_tfds(folder, **wrong)


def test_folders_that_are_not_prepared(folder):
    with pytest.raises(ClipinError, match="dataset_info.json is missing"):
        open_tfds(folder.parent)
    describe(folder, [N], 1, kind="tfrecord")
    with pytest.raises(ClipinError, match="file_format='array_record'"):
        open_tfds(folder)
    (folder / "dataset_info.json").write_text('{"name":')
    with pytest.raises(ClipinError, match="cannot be opened"):
        open_tfds(folder)


def test_missing_and_damaged_shards(folder):
    shard = folder / "pets-train.array_record-00000-of-00002"
    content = bytearray(shard.read_bytes())
    content[2000:2100] = b"\xff" * 100
    shard.write_bytes(bytes(content))
    source, damaged = open_tfds(folder), 0
    for index in range(N):
        try:
            assert source[index]["captions"][0] == f"first {index}"
        except BadRecord:
            damaged += 1
    assert 0 < damaged < N
    shard.unlink()
    with pytest.raises(ClipinError, match="1 of 2 files of split 'train' are missing"):
        open_tfds(folder)
