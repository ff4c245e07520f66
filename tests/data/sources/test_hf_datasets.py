"""Folders that the library `datasets` saved."""

import concurrent.futures
import io
import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

library = pytest.importorskip("datasets")
N = 12


def jpeg(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def rows(**other):
    """A data set with columns of all kinds that are read."""
    kinds = {
        "image": library.Image(),
        "file": library.Value("binary"),
        "path": library.Value("string"),
        "caption": library.Value("string"),
        "more": library.Sequence(library.Value("string")),
        "label": library.ClassLabel(names=["cat", "dog"]),
        "tags": library.Sequence(library.ClassLabel(names=["x", "y", "z"])),
        "kind": library.Value("string"),
        "score": library.Value("float32"),
    }
    columns = {
        "image": [{"bytes": jpeg(n), "path": None} for n in range(N)],
        "file": [b"file %d" % n for n in range(N)],
        "path": ["a.jpg"] * N,
        "caption": [f" first {n} " for n in range(N)],
        "more": [["", f"café {n}"] for n in range(N)],
        "label": [n % 2 for n in range(N)],
        "tags": [[0, 2]] * N,
        "kind": [("b", "a")[n % 2] for n in range(N)],
        "score": [n / 2 for n in range(N)],
    }
    return library.Dataset.from_dict(columns | other, features=library.Features(kinds))


@pytest.fixture(autouse=True)
def quiet(tmp_path):
    library.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    rows().save_to_disk(str(tmp_path / "one"))
    return tmp_path / "one"


def open_folder(folder, **cfg):
    return make_source(name="hf_datasets", folder=str(folder), **cfg)


def reason(source, index):
    with pytest.raises(BadRecord) as error:
        source[index]
    return str(error.value)


def test_records(folder):
    source = open_folder(folder)
    assert len(source) == N and source.classes == ()
    plain = library.load_from_disk(str(folder))
    plain = plain.cast_column("image", library.Image(decode=False))
    for n in range(N):
        assert source[n]["image"] == plain[n]["image"]["bytes"] == jpeg(n)
        assert source[n]["captions"] == (plain[n]["caption"].strip(),)
    assert source.annotations(3) == {"captions": ("first 3",)}
    assert source.describe(3) == f"row 3 of {folder}"
    for index in (-1, N):
        with pytest.raises(IndexError):
            source[index]


def test_kinds_labels_and_other_images(folder):
    source = open_folder(
        folder, image="file", captions=("caption", "more"), label="label"
    )
    assert source.classes == ("cat", "dog")
    assert source[5] == {
        "image": b"file 5",
        "captions": ("first 5", "café 5"),
        "kinds": ("caption", "more"),
        "label": 1,
    }
    tagged = open_folder(folder, label="tags")
    assert tagged.classes == ("x", "y", "z") and tagged[0]["label"] == [0, 2]
    named = open_folder(folder, label="kind")
    assert named.classes == ("a", "b") and named[0]["label"] == 1
    assert open_folder(folder, label="kind", classes=("b", "a"))[0]["label"] == 0
    (folder / "a.jpg").write_bytes(b"beside")
    assert open_folder(folder, image="path")[0]["image"] == b"beside"


def test_splits(tmp_path):
    parts = library.DatasetDict(train=rows(), test=rows().select(range(3)))
    parts.save_to_disk(str(tmp_path / "two"))
    assert len(open_folder(tmp_path / "two", split="train")) == N
    assert len(open_folder(tmp_path / "two", split="test")) == 3
    assert len(open_folder(tmp_path / "two" / "test")) == 3
    for split, message in (("tset", "did you mean 'test'"), ("", "known: .*train")):
        with pytest.raises(ClipinError, match=message):
            open_folder(tmp_path / "two", split=split)
    library.DatasetDict(only=rows()).save_to_disk(str(tmp_path / "single"))
    assert len(open_folder(tmp_path / "single")) == N


def test_empty_cells_are_bad_records(tmp_path):
    changed = rows(
        image=[None] + [{"bytes": jpeg(n), "path": None} for n in range(1, N)],
        caption=["a", None, " "] + ["b"] * (N - 3),
        label=[0] * (N - 1) + [None],
    )
    changed.save_to_disk(str(tmp_path / "t"))
    source = open_folder(tmp_path / "t", label="label")
    why = [reason(source, n) for n in (0, 1, 2, N - 1)]
    assert why == ["no image", "no caption", "no caption", "no label"]
    assert source[3]["captions"] == ("b",)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(captions="captions"), "no column 'captions' .did you mean 'caption'"),
        (dict(image="img"), "no column 'img'"),
        (dict(label="lable"), "did you mean 'label'"),
        (dict(image="score"), "'score' is not an image, but Value"),
        (dict(image="more"), "'more' is not an image"),
        (dict(captions="label"), "'label' is not text, but ClassLabel"),
        (dict(captions="image"), "'image' is not text"),
        (dict(split="train"), "has no splits, but source.split is 'train'"),
        (dict(classes=("a",)), "hf_datasets.label none"),
        (dict(folders="x"), "did you mean 'folder'"),
    ],
)
def test_wrong_arguments(folder, wrong, message):
    with pytest.raises(ClipinError, match=message):
        open_folder(folder, **wrong)


def test_other_folders_are_refused(folder, tmp_path):
    for name in ("none", ""):
        with pytest.raises(ClipinError, match="cannot be read as a data set that save"):
            open_folder(tmp_path / name)
    [data] = folder.glob("*.arrow")
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(ClipinError, match="cannot be read"):
        open_folder(folder)
    data.unlink()
    with pytest.raises(ClipinError, match="cannot be read"):
        open_folder(folder)
    data.write_bytes(content)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ClipinError, match="cannot be read"):
        open_folder(folder)
    none = library.Dataset.from_dict({name: [] for name in rows().column_names})
    none.save_to_disk(str(tmp_path / "empty"))
    with pytest.raises(ClipinError, match="has no rows|cannot be read"):
        open_folder(tmp_path / "empty")


def test_without_the_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ClipinError, match="pip install 'clipin_jax\\[hf\\]'"):
        open_folder(folder)


def test_the_fingerprint_does_not_depend_on_the_folder(folder, tmp_path):
    first = open_folder(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert open_folder(tmp_path / "copy").fingerprint == first.fingerprint
    assert open_folder(folder, captions="kind").fingerprint != first.fingerprint
    rows(caption=["other"] * N).save_to_disk(str(tmp_path / "other"))
    assert open_folder(tmp_path / "other").fingerprint != first.fingerprint
    state = json.loads((tmp_path / "copy" / "state.json").read_text())
    assert state["_fingerprint"]


def test_remote_folders():
    rows().save_to_disk("memory://hf_test/one")
    source = open_folder("memory://hf_test/one")
    assert len(source) == N and source[2]["image"] == jpeg(2)


def test_threads_and_other_processes(folder):
    source = pickle.loads(pickle.dumps(open_folder(folder)))

    def check(n):
        assert source[n] == {"image": jpeg(n), "captions": (f"first {n}",)}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(check, np.random.default_rng(0).integers(N, size=500).tolist()))
