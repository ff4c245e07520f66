"""Tables that name images: cells as the csv module splits them, JSON lines."""

import concurrent.futures
import csv
import io
import json
import logging
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.formats import rows
from clipin_jax.data.formats.cells import row_ends
from clipin_jax.errors import ClipinError
from tests.support.tables import (
    TSV,
    bad_record_reason,
    open_table,
    open_text_table,
    write_table,
)

cells = st.text(st.sampled_from('ab,;\t|\r\n" é'), max_size=6)


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """A folder with a.jpg and b.jpg in it, and c.jpg in a folder p inside it."""
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("a.jpg", "b.jpg", "p/c.jpg"):
        write_table(where, name, name)
    return where


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.TXT"])
def test_records(folder, name):
    source = open_table(folder, TSV, name)
    assert len(source) == 2 and source.classes == ()
    assert source[0] == {"image": b"a.jpg", "captions": ("a dog",)}
    assert source.annotations(1) == {"captions": ("a cat, two",)}
    path = storage.join(folder, name)
    place = f"{storage.join(folder, 'b.jpg')} in row 2, at byte 29, of {path}"
    assert source.describe(1) == place
    for index in (-1, 2):
        with pytest.raises(IndexError):
            source[index]


def test_json_lines(folder):
    entries = [
        {"filepath": "a.jpg", "meta": {"text": ["one ", " "], "alt": "two"}},
        {"filepath": storage.join(folder, "b.jpg"), "meta": {"text": "three"}},
        {"filepath": "a.jpg", "meta": {"text": None}},
        {"filepath": "a.jpg", "meta": {"text": 3}},
    ]
    lines = "\r\n\n".join(json.dumps(entry) for entry in entries) + "\n\n[1]\n{\n"
    source = open_table(
        folder, lines, "t.jsonl", captions=("meta.text", "meta.alt"), folder=folder
    )
    assert len(source) == 6
    assert source[0]["captions"] == ("one", "two")
    assert source[0]["kinds"] == ("meta.text", "meta.alt")
    assert source[1] == {
        "image": b"b.jpg",
        "captions": ("three",),
        "kinds": ("meta.text",),
    }
    why = [bad_record_reason(source, index) for index in (2, 3, 4, 5)]
    assert why == [
        "no caption",
        "meta.text: neither text nor a list of texts",
        "no JSON object",
        "no valid JSON",
    ]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    table=st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    all_quoted=st.booleans(),
)
def test_files_written_by_the_csv_module_are_read(
    tmp_path_factory, table, separator, ending, all_quoted
):
    text = io.StringIO()
    # Left to itself, the writer quotes only those line breaks that end its rows.
    broken = any(sign in cell for row in table for cell in row for sign in "\r\n")
    quoting = csv.QUOTE_ALL if all_quoted or broken else csv.QUOTE_MINIMAL
    writer = csv.writer(
        text, delimiter=separator, lineterminator=ending, quoting=quoting
    )
    writer.writerows([["filepath", "title"], *table])
    path = write_table(tmp_path_factory.mktemp("t"), text.getvalue())
    actual = rows.open_delimited(path, ("filepath", "title"))
    assert [list(actual[row].values()) for row in range(len(actual))] == table
    assert [row["title"] for row in actual.values()] == [row[1] for row in table]


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(text=st.text(st.sampled_from('ab,"\n\r'), max_size=30), whole=st.booleans())
@example('a,5" pipe\nb,6" pipe\n', False)
@example('"a"b"\n",c\n', False)
def test_row_ends_agree_with_the_csv_module(text, whole):
    if whole:  # so that every quote is around a whole cell, or doubled in one
        text = text.replace('"', '"a""\n,"')
    data = (text + "\n").encode()
    ends = row_ends(data, ",", True).tolist()
    end = ends[-1] if ends else 0
    expected = [row for row in csv.reader(io.StringIO(text + "\n", newline="")) if row]
    actual = []
    for first, last in zip([0, *ends], ends, strict=False):
        part = data[first:last].decode().strip("\r\n")
        actual += [row for row in csv.reader([part]) if row]
    if end < len(data):  # a quote that is never closed
        assert actual == expected[:-1]
    else:
        assert actual == expected
    assert row_ends(data, ",", False).tolist() == [
        place + 1
        for place in range(len(data))
        if data[place : place + 1] == b"\n"
        or (data[place : place + 1] == b"\r" and data[place + 1 : place + 2] != b"\n")
    ]


def test_the_block_size_does_not_change_the_records(tmp_path, monkeypatch):
    body = "".join(f'a.jpg\t"say ""{n}""\r\nor"\r\n\r\n' for n in range(40))
    body += "".join(f'a.jpg\t{n}" wide\n' for n in range(40))
    content = b"\xef\xbb\xbf" + f"filepath\ttitle\r\n{body}".encode()
    source = open_text_table(tmp_path, content)
    captions = [source[index]["captions"][0] for index in range(80)]
    assert captions[:40] == [f'say "{n}"\r\nor' for n in range(40)]
    assert captions[40:] == [f'{n}" wide' for n in range(40)]
    for block in (7, 64, 1000):
        monkeypatch.setattr(rows, "_BLOCK", block)
        other = open_text_table(tmp_path, content)
        assert [other[index]["captions"][0] for index in range(80)] == captions
        assert other.fingerprint == source.fingerprint


@pytest.mark.parametrize(
    "head, separator, message",
    [
        ("filepath,title", ",", ""),
        ("filepath\ttitle", "\t", "WARNING: t.csv: columns are separated by tabs"),
        ('"filepath";title', ";", "t.csv: columns are separated by semicolons"),
        ("filepath|a,b,c|title", "|", "t.csv: columns are separated by bars"),
    ],
)
def test_the_separator_is_detected_and_logged(
    tmp_path, caplog, head, separator, message
):
    row = separator.join("a.jpg" for _ in head.split(separator))
    with caplog.at_level(logging.WARNING):
        source = open_text_table(tmp_path, f"{head}\n{row}\n")
    assert source[0]["captions"] == ("a.jpg",)
    lines = [f"{r.levelname}: {r.message}" for r in caplog.records]
    assert len(lines) == bool(message)
    assert message in "".join(lines).replace(f"{tmp_path}/", "")


def test_bad_rows_keep_their_index(tmp_path):
    content = (
        "filepath,title\na.jpg,a\nb.jpg\nc.jpg,c,d\n\n,e\na.jpg,  \nnone.jpg,f\n"
        "a.jpg,\xe9\na.jpg,g\n".encode("latin-1")
    )
    source = open_text_table(tmp_path, content)
    assert len(source) == 8
    assert [bad_record_reason(source, index) for index in (1, 2, 3, 4, 6)] == [
        "1 cells, the header has 2",
        "3 cells, the header has 2",
        "no image is named",
        "no caption",
        "not UTF-8",
    ]
    with pytest.raises(FileNotFoundError):
        source[5]
    assert source[7]["captions"] == ("g",)
    assert "row 7, at byte" in source.describe(6)
    content = content.replace(b"none.jpg", b"no\0e.jpg")
    assert (
        bad_record_reason(open_text_table(tmp_path, content, "u.csv"), 5)
        == "no valid file name"
    )


def test_paths_of_images(folder):
    content = "filepath,title\nc.jpg,c\n../a.jpg,a\n"
    content += f"{storage.join(folder, 'b.jpg')},b\n"
    source = open_table(folder, content, folder=storage.join(folder, "p"))
    assert source[0]["image"] == b"p/c.jpg" and source[2]["image"] == b"b.jpg"
    if not storage.is_remote(folder):
        assert source[1]["image"] == b"a.jpg"
    with pytest.raises(ClipinError) as error:
        open_table(folder, content.replace(folder, "none").replace("..", "q"))
    message = str(error.value)
    assert f"none of the first 3 images of {storage.join(folder, 't.csv')}" in message
    assert storage.join(folder, "c.jpg") in message and "source.folder" in message


def test_several_files_with_columns_in_other_orders(folder):
    write_table(folder, TSV, "t_0.tsv")
    write_table(folder, "title,n,filepath\nc,0,p/c.jpg\n", "t_1.csv")
    pattern = (storage.join(folder, "t_0.tsv"), storage.join(folder, "t_*.csv"))
    source = make_source(name="table", files=pattern)
    assert [source[n]["image"] for n in range(3)] == [b"a.jpg", b"b.jpg", b"p/c.jpg"]


def test_quotes_as_plain_characters(tmp_path):
    content = 'filepath\ttitle\na.jpg\t"open\na.jpg\tb\n'
    with pytest.raises(ClipinError, match="row at byte 15 has no end.*quoted=False"):
        open_text_table(tmp_path, content)
    source = open_text_table(tmp_path, content, "u.tsv", quoted=False)
    assert [source[n]["captions"] for n in range(2)] == [('"open',), ("b",)]


def test_line_breaks_in_cells_are_logged(tmp_path, caplog):
    open_text_table(tmp_path, 'filepath,title\na.jpg,"b\nc"\na.jpg,d\n')
    assert "1 line breaks inside cells in quotes" in caplog.text


@pytest.mark.parametrize(
    "content, name, message",
    [
        (b"", "t.csv", "t.csv is empty"),
        (b"\n\n", "t.csv", "t.csv is empty"),
        (b"\n\n", "t.jsonl", "t.jsonl is empty"),
        (b"filepath,title\n", "t.csv", "has a header, but no rows"),
        (b"file,titel\na,b\n", "t.csv", "'filepath'.*did you mean 'file'.*by commas"),
        (b"filepath\ttitel\n1\t2\n", "t.csv", "'titel', separated by tabs \\(detected"),
        (b"a.jpg\n", "t.csv", "no column 'filepath'"),
        (b"filepath,title,title\na,b,c\n", "t.csv", "'title' comes twice"),
        ("filepath,title,é\n".encode("latin-1"), "t.csv", "its header is not UTF-8"),
        ("filepath,title\na,b\n".encode("utf-16"), "t.csv", "its header is not UTF-8"),
        (TSV.encode(), "t.xls", "does not end like a table: .csv"),
        (b'[\n{"a": 1}\n]', "t.jsonl", "no column 'filepath'"),
        (b"[\n1\n]", "t.jsonl", "no JSON object in each line: no valid JSON"),
        (b'{"file_path": "a", "title": ""}', "t.jsonl", "did you mean 'file_path'"),
    ],
)
def test_wrong_tables(tmp_path, content, name, message):
    with pytest.raises(ClipinError, match=message):
        open_text_table(tmp_path, content, name)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(captions=()), "captions is \\(\\); it must name"),
        (dict(captions=("title", "title")), "comes twice"),
        (dict(image=""), "table.image"),
        (dict(classes=("a",)), "table.classes has names, but table.label none"),
        (dict(label="title", classes=("a", "a")), "different names"),
        (dict(label="kind"), "no column 'kind'"),
        (
            dict(label="mixed"),
            "has numbers \\(1\\) and names \\(x\\); set source.classes",
        ),
        (dict(label="none"), "column 'none' has no label"),
        (dict(label="big"), "no class index"),
        (dict(separator="::"), "must be one ASCII character"),
        (dict(separator='"'), "cannot separate cells"),
        (dict(separator=","), "by commas"),
        (dict(files=""), "must name files"),
        (dict(files="/none/t.csv"), "no file /none/t.csv"),
        (dict(seperator=","), "did you mean 'separator'"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    content = "filepath\ttitle\tmixed\tnone\tbig\na.jpg\ta\t1\t\t9999999\n"
    write_table(tmp_path, "", "a.jpg")
    path = write_table(tmp_path, content + "a.jpg\ta\tx\t\t1\n")
    with pytest.raises(ClipinError, match=message):
        make_source(**{"name": "table", "files": path} | wrong)


def test_the_fingerprint_is_of_the_content(tmp_path):
    source = open_text_table(tmp_path, TSV)
    same = open_text_table(tmp_path / "other", TSV)
    assert same.fingerprint == source.fingerprint
    for other in (
        open_text_table(tmp_path, TSV.replace("dog", "cow")),
        open_text_table(tmp_path, TSV, captions="filepath"),
        open_text_table(tmp_path, TSV, label="title"),
    ):
        assert other.fingerprint != source.fingerprint


def test_a_table_that_was_cut_since(tmp_path):
    source = open_text_table(tmp_path, TSV)
    with open(tmp_path / "t.csv", "r+b") as file:
        file.truncate(len(TSV) - 3)
    assert "truncated" in bad_record_reason(source, 1)


def test_threads_and_other_processes(tmp_path):
    body = "".join(f'a.jpg,"{n}, ""{n}"""\n' for n in range(3000))
    source = open_text_table(tmp_path, f"filepath,title\n{body}")
    sent = pickle.dumps(source)
    assert len(sent) < 12 * 3000  # offsets, no rows
    other = pickle.loads(sent)

    def check(index):
        assert other[index]["captions"] == (f'{index}, "{index}"',)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(check, np.random.default_rng(0).permutation(3000).tolist()))


def test_real_photographs(data_folder, tmp_path):
    folder = data_folder / "captions" / "fsa_photos"
    content = json.loads((folder / "captions_val.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    pairs = [(names[a["image_id"]], a["caption"]) for a in content["annotations"]]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filepath", "title"), *pairs])
    source = make_source(
        name="table", files=str(tmp_path / "t.csv"), folder=str(folder / "images")
    )
    assert len(source) == len(pairs) > 100
    for index, (name, caption) in enumerate(pairs):
        assert source[index] == {
            "image": (folder / "images" / name).read_bytes(),
            "captions": (caption.strip(),),
        }


@pytest.mark.parametrize("mark", ["\t", ",", ";", "|"])
def test_tables_without_a_header(tmp_path, mark):
    content = f"a.jpg{mark}a dog{mark}7\na.jpg{mark}a cat{mark}8\n"
    names = ("filepath", "title", "other")
    source = open_text_table(tmp_path, content, columns=names)
    assert [source[n]["captions"] for n in range(2)] == [("a dog",), ("a cat",)]
    headed = open_text_table(tmp_path, f"{mark.join(names)}\n{content}", columns=names)
    assert len(headed) == 2
    renamed = open_text_table(tmp_path, content, columns=("filepath", "other", "title"))
    assert renamed[1]["captions"] == ("8",)
    assert source.fingerprint != renamed.fingerprint


@pytest.mark.parametrize(
    "cfg, message",
    [
        ({}, "no column 'filepath'.*if its first row is no header, set source.columns"),
        (dict(columns=("filepath", "title")), "has 2 names, but its first row has 3"),
        (dict(columns=("filepath", "a", "b")), "no column 'title'"),
        (dict(columns="abc"), "must be a list of different names"),
        (dict(columns=("filepath", "title", "title")), "list of different names"),
    ],
)
def test_wrong_names_of_columns(tmp_path, cfg, message):
    with pytest.raises(ClipinError, match=message):
        open_text_table(tmp_path, "a.jpg,a dog,7\n", **cfg)


def test_names_of_columns_for_json(tmp_path):
    line = '{"filepath": "a.jpg", "title": "t"}\n'
    with pytest.raises(ClipinError, match="is JSON, which has keys"):
        open_text_table(tmp_path, line, "t.jsonl", columns=("filepath", "title"))


def test_spaces_behind_separators(tmp_path):
    content = (
        'filepath, title\na.jpg, "a dog, big"\na.jpg, plain "quoted"\n'
        'a.jpg,  "two\nlines"\na.jpg, last\n'
    )
    source = open_text_table(tmp_path, content)
    assert [source[n]["captions"][0] for n in range(len(source))] == [
        "a dog, big",
        'plain "quoted"',
        "two\nlines",
        "last",
    ]
