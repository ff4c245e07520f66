"""Lists in the layout of ALBEF and BLIP: several files, kinds of captions, labels."""

import json
import pickle

import fsspec
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

ENTRIES = [
    {"image": "a.jpg", "caption": " a dog ", "image_id": 1},
    {"image": "a.jpg", "caption": "two pets", "image_id": 1},
    {"image": "b.jpg", "caption": ["a cow", " ", "cattle"], "short": "cow"},
    {"image": "a.jpg", "caption": "  "},
    {"image": "none.jpg", "caption": "not there"},
    {"image": "b.jpg", "short": ["a zebra"]},
]


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("a.jpg", "b.jpg"):
        with fsspec.open(
            storage.join(where, f"p/{name}"), "wb", auto_mkdir=True
        ) as file:
            file.write(name.encode())
    write(where, ENTRIES[:2], "1.json")
    write(where, ENTRIES[2:], "2.json")
    return where


def write(folder, entries, name):
    with fsspec.open(storage.join(str(folder), name), "wt") as file:
        file.write(json.dumps(entries))


def open_list(folder, names="*.json", images="p", **cfg):
    names = (names,) if isinstance(names, str) else names
    lists = tuple(storage.join(str(folder), name) for name in names)
    where = storage.join(str(folder), images)
    return make_source(name="json_list", files=lists, folder=where, **cfg)


def test_each_entry_is_a_record(folder):
    source = open_list(folder)
    assert len(source) == 6 and source.classes == ()
    assert source[0] == {"image": b"a.jpg", "captions": ("a dog",)}
    assert source[1] == {"image": b"a.jpg", "captions": ("two pets",)}
    assert source.annotations(2) == {"captions": ("a cow", "cattle")}
    assert source.describe(2) == storage.join(folder, "p/b.jpg")
    for index in (-1, 6):
        with pytest.raises(IndexError):
            source[index]


def test_bad_records_keep_their_index(folder):
    source = open_list(folder)
    with pytest.raises(BadRecord, match="no caption"):
        source[3]
    with pytest.raises(BadRecord, match="no caption"):
        source.annotations(5)
    with pytest.raises(OSError):
        source[4]
    assert source.annotations(4) == {"captions": ("not there",)}


def test_text_and_names_that_are_not_unicode(folder):
    entries = [{"image": name, "caption": "a \ud800"} for name in ("a.jpg", "\ud800\0")]
    write(folder, entries, "odd.json")
    source = open_list(folder, "odd.json")
    assert source[0]["captions"] == ("a ?",)
    with pytest.raises((BadRecord, OSError)):
        source[1]


@pytest.mark.parametrize(
    "entry", [{"image": 3, "caption": "x"}, {"image": "a.jpg", "caption": 3}, {}]
)
def test_entries_of_other_types_are_bad_records(tmp_path, entry):
    (tmp_path / "a.jpg").write_bytes(b"a")
    write(tmp_path, [{"image": "a.jpg", "caption": "a"}, entry], "list.json")
    source = open_list(tmp_path, "list.json", "")
    assert source[0]["captions"] == ("a",)
    with pytest.raises(BadRecord):
        source[1]


def test_several_keys_are_kinds_of_captions(folder):
    source = open_list(folder, captions=("caption", "short"))
    assert source.annotations(2) == {
        "captions": ("a cow", "cattle", "cow"),
        "kinds": ("caption", "caption", "short"),
    }
    assert source.annotations(5) == {"captions": ("a zebra",), "kinds": ("short",)}


def test_lists_are_in_the_order_of_their_names(folder):
    first, second = open_list(folder), open_list(folder, ("2.json", "1.json"))
    assert second[4] == first[0] and second.fingerprint != first.fingerprint
    assert len(open_list(folder, "{1..2}.json")) == 6
    assert open_list(folder).fingerprint == first.fingerprint
    assert open_list(folder, captions="short").fingerprint != first.fingerprint


def test_paths_are_relative_to_their_list(folder):
    write(folder, [{"image": "p/a.jpg", "caption": "a dog"}], "a.json")
    write(folder, [{"image": "b.jpg", "caption": "a cow"}], "p/b.json")
    lists = (storage.join(folder, "a.json"), storage.join(folder, "p/b.json"))
    source = make_source(name="json_list", files=lists)
    assert [source[n]["image"] for n in range(2)] == [b"a.jpg", b"b.jpg"]


def test_absolute_paths(folder):
    path = storage.join(folder, "p/a.jpg")
    write(folder, [{"image": path, "caption": "a dog"}], "whole.json")
    source = make_source(name="json_list", files=storage.join(folder, "whole.json"))
    assert source[0]["image"] == b"a.jpg" and source.describe(0) == path


@pytest.mark.parametrize(
    "labels, given, classes, expected",
    [
        (["x", "y", "x"], (), ("x", "y"), [0, 1, 0]),
        (["x", "y", "x"], ("z", "y", "x"), ("z", "y", "x"), [2, 1, 2]),
        ([1, 0, 2], (), ("0", "1", "2"), [1, 0, 2]),
        ([1, 0, "x"], ("x", "y"), ("x", "y"), [1, 0, 0]),
    ],
)
def test_labels_are_indices_or_names(tmp_path, labels, given, classes, expected):
    source = open_labelled(tmp_path, labels, given)
    assert source.classes == classes
    assert [source.annotations(index)["label"] for index in range(3)] == expected


@pytest.mark.parametrize("label", ["z", 2, -1, None, 1.5])
def test_invalid_labels_are_bad_records(tmp_path, label):
    source = open_labelled(tmp_path, ["x", label], ("x", "y"))
    assert source[0]["label"] == 0
    with pytest.raises(BadRecord, match="label"):
        source[1]


def open_labelled(folder, labels, given):
    (folder / "a.jpg").write_bytes(b"a")
    entries = [{"image": "a.jpg", "caption": "a", "class": label} for label in labels]
    write(folder, entries, "list.json")
    return open_list(folder, images="", label="class", classes=given)


def test_a_pickled_source(folder):
    source = open_list(folder)
    assert pickle.loads(pickle.dumps(source))[2] == source[2]


@pytest.mark.parametrize(
    "entries, message",
    [
        ({}, "no JSON list at the top"),
        ([], "has no column 'image'; there are none"),
        ([{"image": "a.jpg", "captions": "x"}], "did you mean 'captions'"),
        ([{"photo": "a.jpg", "caption": "x"}], "files .* has no column 'image'"),
        (["a.jpg"], "entry 0 is no JSON object"),
        ([{"image": "none.jpg", "caption": "x"}] * 3, "none of the first 3 images"),
    ],
)
def test_malformed_lists(tmp_path, entries, message):
    write(tmp_path, entries, "list.json")
    with pytest.raises(ClipinError, match=message):
        open_list(tmp_path, images="")


def test_a_missing_list(tmp_path):
    with pytest.raises(ClipinError, match="no file .*none.json"):
        open_list(tmp_path, "none.json")
