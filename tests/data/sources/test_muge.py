"""Tables of base64 with texts beside them, of any size, valid and invalid."""

import base64
import json
import pickle

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.data.sources import muge
from clipin_jax.errors import ClipinError

IMAGES = {12: b"\xfb\xff\xfe first", 7: b"second", 30: b"third"}
TEXTS = [
    {"text_id": 1, "text": " 一只猫 ", "image_ids": [7, 12]},
    {"text_id": 2, "text": "两只狗", "image_ids": [12]},
    {"text_id": 3, "text": "  ", "image_ids": [30]},
    {"text_id": 4, "text": "not for sale", "image_ids": []},
]


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    write(where, IMAGES, TEXTS)
    return where


def table(images, encode=base64.b64encode):
    return b"".join(b"%d\t%s\n" % (key, encode(data)) for key, data in images.items())


def write(folder, images, texts, split="train"):
    rows = images if isinstance(images, bytes) else table(images)
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    put(folder, f"{split}_imgs.tsv", rows)
    put(folder, f"{split}_texts.jsonl", lines.encode())


def put(folder, name, content):
    with fsspec.open(storage.join(str(folder), name), "wb", auto_mkdir=True) as file:
        file.write(content)


def open_muge(folder, **cfg):
    return make_source(name="muge", folder=str(folder), **cfg)


def test_an_image_has_all_texts_that_name_it(folder, caplog):
    source = open_muge(folder)
    assert "left out 1 images without texts" in caplog.text
    assert len(source) == 2 and source.classes == ()
    assert source[0] == {"image": IMAGES[12], "captions": ("一只猫", "两只狗")}
    assert source[1] == {"image": IMAGES[7], "captions": ("一只猫",)}
    assert source.annotations(1) == {"captions": ("一只猫",)}
    assert source.describe(1) == f"line 2 of {storage.join(folder, 'train_imgs.tsv')}"
    for index in (-1, 2):
        with pytest.raises(IndexError):
            source[index]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_both_alphabets_and_all_line_endings(tmp_path, encode, ending):
    rows = table(IMAGES, encode).strip().replace(b"\n", ending or b"\n") + ending
    write(tmp_path, rows, TEXTS)
    source = open_muge(tmp_path)
    assert [source[index]["image"] for index in range(2)] == [IMAGES[12], IMAGES[7]]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    images=st.dictionaries(st.integers(0, 10**6), st.binary(max_size=40), min_size=1),
    block=st.integers(1, 80),
)
def test_lines_across_the_ends_of_blocks(tmp_path_factory, images, block):
    folder = tmp_path_factory.mktemp("muge")
    texts = [{"text": str(key), "image_ids": [key]} for key in images]
    write(folder, images, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(muge, "_BLOCK", block)
        source = open_muge(folder)
    actual = {
        int(r["captions"][0]): r["image"]
        for r in map(source.__getitem__, range(len(source)))
    }
    assert actual == images and list(actual) == list(images)


def test_an_image_that_cannot_be_read(tmp_path):
    write(tmp_path, b"12\t!!!!\n7\tc2Vjb\n", TEXTS[:1])
    source = open_muge(tmp_path)
    for index in range(2):
        with pytest.raises(BadRecord, match="no valid base64"):
            source[index]
        assert source.annotations(index) == {"captions": ("一只猫",)}
    (tmp_path / "train_imgs.tsv").write_bytes(b"12\t!!")
    with pytest.raises(BadRecord, match="truncated"):
        source[1]


def test_null_texts_and_objects_are_bad_records(folder):
    object_text = json.dumps({"text": "a dog"})
    texts = [
        {"text": '["a dog", "two pets"]', "image_ids": [7]},
        {"text": None, "image_ids": [12, 7]},
        {"text": object_text, "image_ids": [30]},
    ]
    write(folder, IMAGES, texts)
    source = open_muge(folder)
    assert len(source) == 3
    captions = []
    for index in range(3):
        try:
            captions.append(source.annotations(index)["captions"])
        except BadRecord as error:
            assert str(error) == "no caption"
    assert captions == [("a dog", "two pets")]
    write(folder, IMAGES, texts[1:])
    with pytest.raises(ClipinError, match="no text names an image"):
        open_muge(folder)


def test_fingerprint_follows_texts_and_table(folder):
    before = open_muge(folder).fingerprint
    assert open_muge(folder).fingerprint == before
    write(folder, IMAGES | {7: b"changed"}, TEXTS)
    after = open_muge(folder).fingerprint
    write(folder, IMAGES, TEXTS[:2])
    assert len({before, after, open_muge(folder).fingerprint}) == 3


def test_a_pickled_source(folder):
    source = open_muge(folder)
    assert pickle.loads(pickle.dumps(source))[1] == source[1]


@pytest.mark.parametrize(
    "images, texts, message",
    [
        (b"", TEXTS, "train_imgs.tsv is empty"),
        (b"12\tAAAA\n\n7\tAAAA\n", TEXTS, "line 2 has no id and tab"),
        (b"12 AAAA\n", TEXTS, "line 1 has no id and tab"),
        (b"12\tAAAA\n12\tBBBB\n", TEXTS, r"1 lines repeat an id \(12\)"),
        (b"12\tAAAA\n", TEXTS, r"texts of 1 images that are not in .*image_ids 7\)"),
        (IMAGES, [], "no text names an image"),
        (IMAGES, TEXTS[2:], "no text names an image"),
        (IMAGES, [TEXTS[0], {"text": "x"}], "line 2 has no valid 'image_ids'"),
        (IMAGES, [3], "line 1 has no valid 'text'"),
    ],
)
def test_malformed_files(tmp_path, images, texts, message):
    write(tmp_path, images, texts)
    with pytest.raises(ClipinError, match=message):
        open_muge(tmp_path)


def test_broken_json_and_missing_files(folder):
    with pytest.raises(ClipinError, match="no file .*valid_imgs.tsv; set"):
        open_muge(folder, split="valid")
    put(folder, "train_texts.jsonl", b'{"text": "a", "image_ids": []}\n\n{"text":')
    with pytest.raises(ClipinError, match="train_texts.jsonl: line 3 is not valid"):
        open_muge(folder)
