"""Keys with dots, through structs and lists of structs, in every format."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from clipin_jax.data import make_source
from clipin_jax.data.formats.nested_values import value_at
from clipin_jax.errors import ClipinError
from tests.support.tables import bad_record_reason, open_text_table
from tests.support.tars import open_tars, tar_of

ROWS = [
    {
        "image": {"bytes": b"image", "path": "a.jpg"},
        "meta": {"text": "a dog", "kind": 1},
        "sentences": [{"raw": "one"}, {"raw": "two"}],
        "a.b": "dotted",
        "binary": "grün".encode(),
    }
]


@pytest.mark.parametrize(
    "key, value",
    [
        ("a.b", "dotted"),
        ("meta.text", "a dog"),
        ("sentences.raw", ["one", "two"]),
        ("sentences.none", [None, None]),
        ("meta.none", None),
        ("none.text", None),
    ],
)
def test_values(key, value):
    assert value_at(ROWS[0], key) == value


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return str(path)


@pytest.mark.parametrize(
    "captions, expected",
    [
        ("meta.text", ("a dog",)),
        ("sentences.raw", ("one", "two")),
        ("a.b", ("dotted",)),
        ("binary", ("grün",)),
    ],
)
def test_parquet(file, captions, expected):
    source = make_source(name="parquet", files=file, captions=captions)
    assert source[0] == {"image": b"image", "captions": expected}


def test_an_image_and_a_label_inside_structs(file):
    arguments = dict(name="parquet", files=file, captions="a.b")
    source = make_source(**arguments, image="image.bytes", label="meta.kind")
    assert source[0] == {"image": b"image", "captions": ("dotted",), "label": 1}
    assert source.classes == ("0", "1")


@pytest.mark.parametrize(
    "captions, message",
    [
        ("meta.txet", "no column 'meta.txet': did you mean 'text'"),
        ("mta.text", "no column 'mta'.*did you mean 'meta'"),
        ("meta", "'meta' is not text, but struct.*; name one of meta.text, meta.kind"),
        ("sentences", "name one of sentences.raw"),
    ],
)
def test_wrong_inner_columns(file, captions, message):
    with pytest.raises(ClipinError, match=message):
        make_source(name="parquet", files=file, captions=captions)


def test_bytes_that_are_no_text(tmp_path):
    rows = [{"image": b"x", "caption": b"\xff"}, {"image": b"x", "caption": b"a"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = make_source(name="parquet", files=str(tmp_path / "a.parquet"))
    assert bad_record_reason(source, 0) == "caption: not UTF-8"
    assert source[1]["captions"] == ("a",)


def test_lists_of_objects_in_json(tmp_path):
    row = {"filepath": "a.jpg", "image": "a.jpg", "s": [{"raw": "one"}, {"raw": " "}]}
    table = open_text_table(tmp_path, json.dumps(row), "t.jsonl", captions="s.raw")
    assert table[0]["captions"] == ("one",)
    (tmp_path / "l.json").write_text(json.dumps([row]))
    listed = make_source(
        name="json_list", files=str(tmp_path / "l.json"), captions="s.raw"
    )
    assert listed[0]["captions"] == ("one",)
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar_of(("0.jpg", b"x"), ("0.json", json.dumps(row).encode())))
    assert open_tars(str(tar), captions="json:s.raw")[0]["captions"] == ("one",)
