"""The source of a folder or file is found out, for training and evaluation."""

import json
import shlex

import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from tests.support.format_writers import CLASS_WRITERS, WRITERS, Pair, write_pairs
from tests.support.pair_folders import encoded_image

CLASSES = ("cat", "dog")
PAIRS = [
    Pair(encoded_image(n, size=(8, 9)), (f"{CLASSES[n % 2]} {n}",), n % 2)
    for n in range(40)
]
# `npz` needs a file, `array_record` written by TFDS its own folder.
FOLDERS = {
    "coco": "coco", "karpathy": "karpathy", "parquet": "parquet", "voc": "voc",
    "webdataset": "webdataset", "array_record": "array_record", "muge": "muge",
    "caption_files": "caption_files", "image_folder": "image_folder",
    "table:csv": "table", "table:tsv": "table", "table:jsonl": "table",
}  # fmt: skip


def auto(path, **cfg):
    return make_source(name="auto", path=str(path), **cfg)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path, name, caplog):
    write_pairs(name, tmp_path / "d", PAIRS, CLASSES)
    folder = tmp_path / "d"
    inner = [p for p in folder.iterdir() if p.name == "train"]
    source = auto(inner[0] if name == "image_folder" and inner else folder)
    assert len(source) == len(PAIRS) and source[7]["captions"]
    assert f"taken for source '{FOLDERS[name]}'" in caplog.text
    written = caplog.text.rpartition("write data.source='")[2].rpartition("'")[0]
    again = make_source(**json.loads(written))
    assert again.fingerprint == source.fingerprint


def test_the_line_to_write_is_one_word_of_a_shell(tmp_path, caplog):
    write_pairs("webdataset", tmp_path / "it's ü", PAIRS, CLASSES)
    source = auto(tmp_path / "it's ü")
    [word] = shlex.split(caplog.text.rpartition("to be sure, write ")[2])
    assert "ü" in word
    again = make_source(**json.loads(word.removeprefix("data.source=")))
    assert again.fingerprint == source.fingerprint


def write_files(folder, captions="txt"):
    folder.mkdir(parents=True)
    for number, pair in enumerate(PAIRS):
        (folder / f"{number:02}.jpg").write_bytes(pair.image)
        content = pair.captions[0]
        if captions == "json":
            content = json.dumps({"url": "u", "caption": content})
        (folder / f"{number:02}.{captions}").write_text(content)


@pytest.mark.parametrize("captions", ["txt", "json"])
def test_images_with_a_file_beside_each(tmp_path, captions):
    write_files(tmp_path / "d", captions)
    assert auto(tmp_path / "d")[3]["captions"] == ("dog 3",)


@pytest.mark.parametrize(
    "columns",
    [
        ("image", "caption"), ("filepath", "title"), ("Image", "TEXT"),
        ("file_name", "description"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "json"])
def test_single_files_with_usual_columns(tmp_path, columns, kind):
    rows = [dict(zip(("n", *columns), ("1", "a.jpg", "a dog"), strict=True))] * 3
    (tmp_path / "a.jpg").write_bytes(PAIRS[0].image)
    path = tmp_path / f"pairs.{kind}"
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind in ("json", "jsonl"):
        lines = "\n".join(map(json.dumps, rows))
        path.write_text(json.dumps(rows) if kind == "json" else lines)
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(rows[0]), *(mark.join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    assert auto(path)[2] == {"image": PAIRS[0].image, "captions": ("a dog",)}


def test_one_record_in_twenty_is_held_out(tmp_path, caplog):
    write_files(tmp_path / "d")
    every, train, val = (auto(tmp_path / "d", split=s) for s in ("", "train", "val"))
    names = [[s.describe(n) for n in range(len(s))] for s in (every, train, val)]
    assert len(val) == 2 and not set(names[1]) & set(names[2])
    assert sorted(names[1] + names[2]) == names[0]
    assert len({every.fingerprint, train.fingerprint, val.fingerprint}) == 3
    assert "of which 'val' has 2 records" in caplog.text
    assert caplog.text.count("this reads all 40: give evaluations data") == 1
    for index in (-1, 2):
        with pytest.raises(IndexError):
            val[index]


def test_folders_of_splits(tmp_path, caplog):
    write_files(tmp_path / "d" / "train")
    held_out = auto(tmp_path / "d", split="val")
    assert len(held_out) == 2 and len(auto(tmp_path / "d", split="train")) == 38
    write_files(tmp_path / "d" / "validation")
    for split, part in (("train", "train/"), ("val", "validation/")):
        source = auto(tmp_path / "d", split=split)
        assert len(source) == 40 and part in source.describe(0)
    # Not for each split: once before it had folders, and once with them.
    assert caplog.text.count("taken for source 'caption_files'") == 2


def test_files_of_splits(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    for name, count in (("train", 5), ("val", 3), ("test", 4)):
        text = "image,caption\n" + "a.jpg,t\n" * count
        (tmp_path / f"my_{name}.csv").write_text(text)
    for path in (tmp_path, tmp_path / "my_train.csv"):
        assert [len(auto(path, split=s)) for s in ("train", "val")] == [5, 3]
    (tmp_path / "my_val.csv").unlink()
    (tmp_path / "my_test.csv").unlink()
    assert [len(auto(tmp_path, split=s)) for s in ("train", "val")] == [4, 1]


def test_what_is_not_known(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(
        ClipinError, match="no layout that is known, but 1 .md; set data"
    ):
        auto(tmp_path)
    with pytest.raises(ClipinError, match="neither a folder nor a file of pairs"):
        auto(tmp_path / "none")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ClipinError, match="no column that is named like an image"):
        auto(tmp_path / "t.csv")


def test_config_pages(tmp_path):
    write_files(tmp_path / "d")
    (tmp_path / "t.csv").write_text("image,caption\nd/00.jpg,t\nd/01.jpg,u\n")
    for page in ("clip", "siglip", "quickstart", "clip_zh"):
        for path in (tmp_path / "d", tmp_path / "t.csv"):
            more = ",runlocal" if page == "clip_zh" else ""  # for its vocabulary
            config = load_config(f"{page}:data={path}{more}")
            train, val = config.data.source, config.evals.retrieval.source
            assert (train.name, train.split, val.split) == ("auto", "train", "val")
            assert len(make_source(**train)) and len(make_source(**val))
    write_pairs("coco", tmp_path / "coco", PAIRS, CLASSES)
    for path in (tmp_path / "coco", tmp_path / "none", "gs://bucket/folder"):
        assert load_config(f"clip:data={path}").data.source.name == "coco"


def test_every_format_is_tried_or_left_to_its_own_name():
    formats = {*WRITERS, *CLASS_WRITERS} - {"auto"}
    assert formats - set(FOLDERS) == {"json_list", "tfds", "hf_datasets", "npz"}
    assert np.ndim(PAIRS[0].label) == 0
