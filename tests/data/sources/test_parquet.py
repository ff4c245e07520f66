"""Parquet files: images as bytes, structs or paths, read a row group at a time."""

import concurrent.futures
import pickle
import threading
import time

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.data.sources import parquet
from clipin_jax.errors import ClipinError

N = 20
COLUMNS = {
    "image": [b"image %d" % n for n in range(N)],
    "file": [{"bytes": b"file %d" % n, "path": f"{n}.jpg"} for n in range(N)],
    "caption": [f" first {n} " for n in range(N)],
    "more": [["", f"café {n}", None] for n in range(N)],
    "label": [n % 3 for n in range(N)],
    "kind": [("dog", "cat")[n % 2] for n in range(N)],
    "tags": [[0, n % 4] for n in range(N)],
    "score": [n / 2 for n in range(N)],
}


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """Two files, of 12 rows in groups of 5 and of the other 8 in groups of 4."""
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    write(where, cut(0, 12), "a_0.parquet", row_group_size=5)
    write(where, cut(12, N), "a_1.parquet", row_group_size=4)
    return where


def cut(first, last):
    return {name: column[first:last] for name, column in COLUMNS.items()}


def write(folder, columns, name="t.parquet", **options):
    path = storage.join(str(folder), name)
    with fsspec.open(path, "wb", auto_mkdir=True) as file:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, file, **options)
    return path


def open_files(where, pattern="*.parquet", **cfg):
    return make_source(name="parquet", files=storage.join(str(where), pattern), **cfg)


def reason(source, index):
    with pytest.raises(BadRecord) as error:
        source[index]
    return str(error.value)


def test_records(folder):
    source = open_files(folder)
    assert len(source) == N and source.classes == ()
    for n in np.random.default_rng(0).permutation(N).tolist():
        assert source[n] == {"image": b"image %d" % n, "captions": (f"first {n}",)}
        assert source.annotations(n) == {"captions": (f"first {n}",)}
    assert source.describe(17).startswith("row 1 of row group 1 of ")
    assert source.describe(17).endswith("/a_1.parquet")
    for index in (-1, N):
        with pytest.raises(IndexError):
            source[index]


def test_structs_lists_kinds_and_labels(folder):
    source = open_files(
        folder, image="file", captions=("caption", "more"), label="label"
    )
    assert source.classes == ("0", "1", "2")
    assert source[13] == {
        "image": b"file 13",
        "captions": ("first 13", "café 13"),
        "kinds": ("caption", "more"),
        "label": 1,
    }
    named = open_files(folder, label="kind")
    assert named.classes == ("cat", "dog") and named[0]["label"] == 1
    assert open_files(folder, label="kind", classes=("dog", "cat"))[0]["label"] == 0
    assert open_files(folder, label="tags")[19]["label"] == [0, 3]


def test_images_by_path(folder):
    for name in ("a.jpg", "p/b.jpg"):
        with fsspec.open(storage.join(folder, name), "wb", auto_mkdir=True) as file:
            file.write(name.encode())
    paths = ["a.jpg", "p/b.jpg", storage.join(folder, "a.jpg"), "none.jpg", "", "a\0"]
    columns = {
        "image": paths,
        "struct": [{"bytes": None, "path": path} for path in paths],
        "caption": ["x"] * 6,
    }
    write(folder, columns, "t.parquet")
    for image in ("image", "struct"):
        source = open_files(folder, "t.parquet", image=image)
        assert [source[n]["image"] for n in range(3)] == [
            b"a.jpg",
            b"p/b.jpg",
            b"a.jpg",
        ]
        with pytest.raises(OSError):
            source[3]
        assert reason(source, 4) == "no image"
        with pytest.raises((BadRecord, OSError)):
            source[5]
    inside = open_files(folder, "t.parquet", folder=storage.join(folder, "p"))
    with pytest.raises(OSError):
        inside[0]


def test_empty_cells_are_bad_records(tmp_path):
    columns = {
        "image": pa.array([None, b"a", b"b", b"c"]),
        "caption": pa.array(["x", None, " ", "y"]),
        "label": pa.array([0, 1, 1, None]),
    }
    write(tmp_path, columns)
    source = open_files(tmp_path, label="label")
    why = [reason(source, n) for n in range(4)]
    assert why == ["no image", "no caption", "no caption", "no label"]
    text = pa.array([b"\xff", b"a"]).cast(pa.binary())
    broken = pa.StringArray.from_buffers(2, *text.buffers()[1:])
    write(tmp_path, {"image": [b"a", b"b"], "caption": broken}, "u.parquet")
    assert reason(open_files(tmp_path, "u.parquet"), 0) == "not UTF-8"


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()],
    ids=str,
)
def test_other_types_of_text(tmp_path, kind):
    columns = {
        "image": pa.array([b"abc"], pa.large_binary()),
        "fixed": pa.array([b"abc"], pa.binary(3)),
        "caption": pa.array(["x"]).cast(kind),
    }
    write(tmp_path, columns)
    for image in ("image", "fixed"):
        source = open_files(tmp_path, image=image)
        assert source[0] == {"image": b"abc", "captions": ("x",)}


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(captions="captions"), "a_0.parquet has no column 'captions' .*'caption'"),
        (dict(image="photo"), "no column 'photo'"),
        (dict(label="lable"), "did you mean 'label'"),
        (dict(image="score"), "column 'score' is not an image, but double"),
        (dict(captions="score"), "column 'score' is not text, but double"),
        (dict(captions="image"), "column 'image' is not text, but binary"),
        (dict(label="file"), "column 'file' is not a class label, but struct"),
        (dict(label="image"), "not a class label"),
        (dict(classes=("a",)), "parquet.label none"),
        (dict(files="/none/*.parquet"), "no file /none"),
        (dict(file="a"), "did you mean 'files'"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    path = write(tmp_path, COLUMNS, "a_0.parquet")
    with pytest.raises(ClipinError, match=message):
        make_source(**{"name": "parquet", "files": path} | wrong)


def test_damaged_files(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "image": [rng.bytes(1000) for _ in range(40)],
        "caption": [f"caption {n}" for n in range(40)],
    }
    plain = dict(use_dictionary=False, write_page_checksum=True)
    path = write(tmp_path, columns, row_group_size=10, **plain)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    wrong = {
        "text": b"text\n" * 100,
        "empty": b"",
        "cut": content[:-100],
        "begin": content[:300],
        "footer": content[:-300] + b"\xff" * 200 + content[-100:],
        "long": content[:-8] + b"\xff\xff\xff\x7fPAR1",
    }
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ClipinError, match=f"{name} (is no|cannot be)"):
            open_files(tmp_path, name)
    write(tmp_path, cut(0, 0) | {"image": pa.array([], pa.binary())}, "none")
    with pytest.raises(ClipinError, match="not text, but null|no rows"):
        open_files(tmp_path, "none")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start + 2000 : start + 2100] = bytes(100)
    (tmp_path / "t.parquet").write_bytes(content)
    source, bad = open_files(tmp_path, "t.parquet"), []
    for index in range(40):
        try:
            assert source[index]["image"] == columns["image"][index]
        except BadRecord as error:
            bad.append(index)
            assert str(error).startswith("damaged row group: ")
    assert bad == list(range(10, 20))
    assert source.annotations(12) == {"captions": ("caption 12",)}


def test_a_file_that_was_deleted(tmp_path):
    path = write(tmp_path, COLUMNS)
    source = open_files(tmp_path)
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        source[0]
    assert path in source.describe(0)


def test_a_large_footer_is_read_completely(tmp_path, monkeypatch):
    write(tmp_path, COLUMNS, row_group_size=1)
    monkeypatch.setattr(parquet, "_TAIL", 100)
    assert open_files(tmp_path)[N - 1]["image"] == b"image 19"


def test_neighbouring_records_need_one_read(tmp_path, monkeypatch):
    write(tmp_path, COLUMNS, row_group_size=5)
    read, calls = parquet._read_group, []
    monkeypatch.setattr(
        parquet, "_read_group", lambda *a: calls.append(a[1:]) or read(*a)
    )
    source = open_files(tmp_path)
    for index in range(10):
        source.annotations(index)
    assert calls == [(0, ("caption",)), (1, ("caption",))]
    for index in (3, 12, 4, 13):
        source[index]
    assert len(calls) == 5  # one of texts and two of images
    small = open_files(tmp_path, cache_mb=0)
    for index in (0, 5, 1, 6):
        small.annotations(index)
    assert len(calls) == 9


def test_the_fingerprint_is_of_the_content(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, cut(0, 12), "a_0.parquet", row_group_size=5)
    write(other, cut(12, N), "a_1.parquet", row_group_size=4)
    first = open_files(folder)
    assert open_files(other).fingerprint == first.fingerprint
    assert open_files(other, captions="more").fingerprint != first.fingerprint
    changed = cut(12, N) | {"caption": ["other"] * 8}
    write(other, changed, "a_1.parquet", row_group_size=4)
    assert open_files(other).fingerprint != first.fingerprint


def test_threads_and_other_processes(tmp_path):
    columns = {
        "image": [b"%d" % n for n in range(1000)],
        "caption": [f"{n}" for n in range(1000)],
    }
    write(tmp_path, columns, row_group_size=50)
    source = open_files(tmp_path)
    source[0]
    source = pickle.loads(pickle.dumps(source))

    def check(n):
        assert source[n] == {"image": b"%d" % n, "captions": (f"{n}",)}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(check, np.random.default_rng(0).permutation(1000).tolist()))


def test_the_cache_reads_once_and_drops_the_oldest():
    cache, calls = parquet.GroupCache(most=250), []

    def get(key, size=100):
        return cache.get(key, lambda: calls.append(key) or np.zeros(size, np.uint8))

    for key in "abacab":  # c is too much: b, the oldest by then, goes
        get(key)
    assert calls == ["a", "b", "c", "b"]
    assert len(get("d", 1000)) == 1000 and len(get("d", 1000)) == 1000
    assert calls[4:] == ["d"]


def test_the_cache_keeps_no_errors_and_reads_once_for_all_threads():
    cache, calls, go = parquet.GroupCache(most=100), [], threading.Event()

    def fail():
        raise BadRecord("damaged")

    for _ in range(2):
        with pytest.raises(BadRecord):
            cache.get("a", fail)

    def slow():
        calls.append(1)
        go.wait(10)
        return np.zeros(1)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get, "a", slow) for _ in range(4)]
        time.sleep(0.05)
        go.set()
        assert len({id(each.result()) for each in futures}) == len(calls) == 1
