"""Labels in tables: one column of them, or a column for each class."""

import json
import pickle
import re

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.formats import rows
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_captions, read_labels
from tests.support.tables import (
    TSV,
    bad_record_reason,
    open_table,
    open_text_table,
    write_table,
)


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


@pytest.mark.parametrize(
    "values, classes, expected, names",
    [
        (["dog", "cat", " dog"], (), [1, 0, 1], ("cat", "dog")),
        (["2", "0", "1.0"], (), [2, 0, 1], ("0", "1", "2")),
        (["dog", "cat", "1"], ("dog", "cat"), [0, 1, 1], ("dog", "cat")),
    ],
)
def test_labels(tmp_path, values, classes, expected, names):
    content = "filepath,title,kind\n" + "".join(f"a.jpg,t,{v}\n" for v in values)
    content += "a.jpg,t,\n"
    source = open_text_table(tmp_path, content, label="kind", classes=classes)
    assert source.classes == names
    assert [source.annotations(n)["label"] for n in range(3)] == expected
    assert bad_record_reason(source, 3) == "no label"


def test_labels_in_json(tmp_path):
    entries = [{"filepath": "a.jpg", "title": "t", "y": y} for y in ([0, 2], 1, True)]
    lines = "\n".join(map(json.dumps, entries))
    source = open_text_table(tmp_path, lines, "t.ndjson", label="y")
    assert source.classes == ("0", "1", "2")
    assert source[0]["label"] == [0, 2] and source[1]["label"] == 1
    assert "label True is none of 3 classes" in bad_record_reason(source, 2)
    named = open_text_table(tmp_path, lines, "t.ndjson", label="y", classes=("x", "y"))
    assert "label 2 is none of 2 classes" in bad_record_reason(named, 0)


DISEASES = "ID,Risk,DR,ODC\n1,1,1,0\n2,0,0,0.0\n3,1, 1,1\n4,1,,1\n"


def diseases(folder, content=DISEASES, **cfg):
    """A table of ids and a column for each disease, as RFMiD's."""
    for number in "1234":
        write_table(folder, number, f"{number}.png")
    more = dict(image="ID", ending=".png", captions=(), label=("DR", "ODC"))
    return open_table(folder, content, **(more | cfg))


def test_a_column_for_each_class(folder):
    source = diseases(folder)
    assert source.classes == ("DR", "ODC")
    assert source[0] == {"image": b"1", "captions": ("DR",), "label": [0]}
    assert source.annotations(1) == {"captions": ("none of the classes",), "label": []}
    assert source[2]["label"] == [0, 1] and source[2]["captions"] == ("DR, ODC",)
    assert bad_record_reason(source, 3) == "no label of 0 or 1 in column 'DR'"
    named = diseases(folder, classes=("retinopathy", "cupping"))
    assert named[2]["captions"] == ("retinopathy, cupping",)
    assert named.fingerprint != source.fingerprint
    source = diseases(folder, captions="Risk")
    assert source[1] == {"image": b"2", "captions": ("0",), "label": []}
    assert pickle.loads(pickle.dumps(named))[0] == named[0]


def test_labels_of_several_columns_are_read_for_evaluation(tmp_path):
    whole = DISEASES.replace("4,1,,1\n", "")
    members = read_labels(diseases(tmp_path, whole), 2)
    np.testing.assert_array_equal(members, [[True, False], [False, False], [True] * 2])
    one = diseases(tmp_path, whole, label="Risk", classes=("healthy", "ill"))
    assert read_labels(one, 2).tolist() == [1, 0, 1]
    assert [one[n]["captions"] for n in range(2)] == [("ill",), ("healthy",)]


def test_bad_rows_are_one_error_in_evaluation(tmp_path):
    labelled = diseases(tmp_path)
    with pytest.raises(ClipinError) as error:
        read_labels(labelled, 2)
    message = str(error.value)
    assert message.startswith(
        f"record 3, {labelled.describe(3)}, cannot be used: no label"
    )
    assert "row 4, at byte" in message and "fix it, or remove it" in message
    assert "\n" not in message
    silent = open_text_table(tmp_path, TSV + "a.jpg\t\n", "s.tsv")
    with pytest.raises(ClipinError, match="record 2, .* cannot be used: no caption"):
        read_captions(silent, 0)


def test_columns_of_classes_are_checked_in_one_pass(tmp_path, monkeypatch):
    parsed, parse = [], rows._Delimited.parse

    def counted(self, text):
        parsed.append(text)
        return parse(self, text)

    monkeypatch.setattr(rows._Delimited, "parse", counted)
    names = [f"d{n}" for n in range(9)]
    content = ",".join(["ID", *names]) + "\n" + ("1" + ",0" * 9 + "\n") * 50
    diseases(tmp_path, content, label=names)
    assert len(parsed) <= 50 + 1  # one more to look for the first image


def test_columns_of_classes_in_json(tmp_path):
    rows = [{"ID": "1", "y": {"a": 1, "b": False}}, {"ID": "2", "y": {"a": 0.0}}]
    lines = "\n".join(map(json.dumps, rows))
    for number in "12":
        write_table(tmp_path, number, f"{number}.png")
    more = dict(image="ID", ending=".png", captions=(), label=("y.a", "y.b"))
    source = open_table(tmp_path, lines, "t.jsonl", **more)
    assert source[0]["label"] == [0]
    assert bad_record_reason(source, 1) == "no label of 0 or 1 in column 'y.b'"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(label=("DR", "ODX")), "no column 'ODX' .did you mean 'ODC'"),
        (dict(label=("DR", "DR")), "table.label is .*several different ones"),
        (dict(label=("DR", "")), "table.label is"),
        (dict(label=("DR", "ID")), "column 'ID' has '2'; .* must have 0 or 1"),
        (dict(classes=("a",)), "a name, .* for each of the 2 columns of table.label"),
        (dict(classes=("a", "a")), "table.classes is .* for each of the 2 columns"),
        (dict(classes="ab"), "table.classes is 'ab'"),
        (dict(label=()), "captions is ..; it must name"),
        (dict(label="DR", classes=("a", "a")), "must be a list of different names"),
        (dict(ending=".jpg"), "none of the first 4 images .*1.jpg, in column 'ID'"),
    ],
)
def test_wrong_columns_of_classes(tmp_path, wrong, message):
    with pytest.raises(ClipinError, match=message):
        diseases(tmp_path, **wrong)


FINDINGS = ["Mass|Edema", "Edema", "None", "Edema | Mass", ""]


def _findings(folder, values=FINDINGS, **cfg):
    content = "filepath,title,kind\n" + "".join(f'a.jpg,t,"{v}"\n' for v in values)
    return open_text_table(folder, content, label="kind", **cfg)


def test_several_labels_in_a_cell(tmp_path):
    source = _findings(tmp_path, label_separator="|")
    assert source.classes == ("Edema", "Mass", "None")
    labels = [source.annotations(n)["label"] for n in range(4)]
    assert labels == [[1, 0], [0], [2], [0, 1]]
    assert bad_record_reason(source, 4) == "no label"
    numbers = _findings(tmp_path, ["0;2", "1"], label_separator=";")
    assert numbers.annotations(0)["label"] == [0, 2] and len(numbers.classes) == 3
    named = _findings(tmp_path, label_separator="|", classes=("None", "Mass", "Edema"))
    assert named.annotations(0)["label"] == [1, 2]
    assert source.fingerprint != _findings(tmp_path, classes=source.classes).fingerprint


@pytest.mark.parametrize(
    "values, mark",
    [
        (FINDINGS, "|"),
        (["a;b", "c"], ";"),
        (["1|3", "2"], "|"),
        (["a, b", "a", "b"], ","),
    ],
)
def test_several_labels_without_a_separator_are_no_class(tmp_path, values, mark):
    with pytest.raises(ClipinError, match=f"label_separator={re.escape(repr(mark))}"):
        _findings(tmp_path, values)
    # A hint beside each bad record where the classes are given.
    source = _findings(tmp_path, values, classes=("Edema", "Mass", "a", "b", "3"))
    assert f"set source.label_separator={mark!r}" in bad_record_reason(source, 0)


def test_names_with_signs_of_their_own_are_classes(tmp_path):
    source = _findings(tmp_path, ["shark, great", "dog/wolf", "dog"])
    assert source.classes == ("dog", "dog/wolf", "shark, great")


def test_a_separator_without_a_single_column(tmp_path):
    with pytest.raises(ClipinError, match="label_separator is '|'"):
        open_text_table(tmp_path, "filepath,title\na.jpg,t\n", label_separator="|")


def test_several_labels_in_a_text_of_other_formats(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"image": "a.jpg", "caption": "t", "y": y} for y in ("b|a", "a")]
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "l.json").write_text(json.dumps(rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    for name, file in (("json_list", "l.json"), ("parquet", "t.parquet")):
        arguments = dict(name=name, files=str(tmp_path / file), label="y")
        with pytest.raises(ClipinError, match="label_separator='|'"):
            make_source(**arguments)
        source = make_source(**arguments, label_separator="|")
        assert source.annotations(0)["label"] == [1, 0]


def test_spaces_around_cells(tmp_path):
    content = "filepath , title , kind\n a.jpg , a dog , dog\n"
    source = open_text_table(tmp_path, content, label="kind")
    assert source[0]["captions"] == ("a dog",) and source.classes == ("dog",)
    assert source[0]["image"] == b""
