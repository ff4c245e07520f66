"""Headers of tars, valid and damaged, and the index that is saved."""

import concurrent.futures
import io
import logging
import os
import tarfile
import tracemalloc

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax import storage
from clipin_jax.data.formats import tar_index
from clipin_jax.data.formats.tar_headers import Fault, Window, walk
from clipin_jax.data.formats.tar_index import read_index, read_key, split_name
from clipin_jax.errors import ClipinError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def summed(block):
    """A header with the right checksum."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.fixture
def write(tmp_path):
    def write(content, name="a.tar"):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def members(path):
    with Window(path) as window:
        return list(walk(window))


def pairs(count=3):
    for number in range(count):
        yield member(f"{number:04}.jpg", bytes([number % 256]) * (500 + number))
        yield member(f"{number:04}.txt", f"text {number}".encode())


@pytest.mark.parametrize("form", FORMATS)
def test_a_valid_tar_is_read_as_by_the_standard_library(write, form):
    long = "folder/" * 12 + "n" * 60 + ".jpg"
    listed = [
        member("plain.jpg", b"x" * 513),
        member("../above.jpg", b"y"),
        member("/absolute/name.txt", b""),
        member(long, b"z" * 512),
        member("folder", type=tarfile.DIRTYPE),
        member("link.jpg", type=tarfile.SYMTYPE, linkname="plain.jpg"),
        member("hard.jpg", type=tarfile.LNKTYPE, linkname="plain.jpg"),
        member("pipe.jpg", type=tarfile.FIFOTYPE),
        member("old.txt", b"w", type=tarfile.AREGTYPE),
    ]
    if form != tarfile.USTAR_FORMAT:
        listed += [member("ü" * 150 + ".txt", b"v"), member("x" * 300 + ".t", b"u")]
    path = write(packed(listed, form))
    with tarfile.open(path) as tar:
        expected = [
            (each.name.encode(), each.offset, each.offset_data, each.size, each.isreg())
            for each in tar
            if not each.isdir()
        ]
    actual = [(*each[:4], each.fault is Fault.NONE) for each in members(path)]
    assert actual == expected
    faults = {each.name: each.fault for each in members(path) if each.fault}
    assert faults == {
        b"link.jpg": Fault.LINK,
        b"hard.jpg": Fault.LINK,
        b"pipe.jpg": Fault.SPECIAL,
    }


def test_sizes_beyond_octal(write):
    content = packed([member("a.jpg", b"x" * 700), member("a.txt", b"y")])
    binary = b"\x80" + (700).to_bytes(11, "big")
    path = write(summed(content[:124] + binary + content[136:512]) + content[512:])
    assert [each.size for each in members(path)] == [700, 1]


def test_a_size_and_a_name_from_pax(write):
    pax = {"path": "ö.jpg", "size": "700"}
    info, _ = member("other.jpg", pax_headers=pax)
    header = info.tobuf(tarfile.PAX_FORMAT)
    path = write(header + b"x" * 1024 + packed([member("b.txt", b"y")]))
    assert [(m.name, m.size) for m in members(path)] == [
        ("ö.jpg".encode(), 700),
        (b"b.txt", 1),
    ]


def test_sparse_files_are_marked_and_skipped(write):
    old, _ = member("old.jpg", type=tarfile.GNUTYPE_SPARSE)
    block = bytearray(old.tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[482] = b"%011o\0" % 600, 1
    more = b"\0" * 504 + b"\1" + b"\0" * 7
    pax = {"GNU.sparse.major": "1", "GNU.sparse.name": "new.jpg"}
    new, _ = member("x/new.jpg", pax_headers=pax)
    path = write(
        summed(block) + more + b"\0" * 512 + b"x" * 1024
        + new.tobuf(tarfile.PAX_FORMAT)
        + packed([member("b.txt", b"y")])
    )  # fmt: skip
    actual = [(each.name, each.fault) for each in members(path)]
    assert actual == [
        (b"old.jpg", Fault.SPECIAL),
        (b"new.jpg", Fault.SPECIAL),
        (b"b.txt", Fault.NONE),
    ]


@pytest.mark.parametrize("length", [1, 511, 512, 3000, 1 << 15])
@pytest.mark.parametrize("place", [0, 1])
def test_garbage_between_members_is_skipped(write, length, place):
    content = packed(pairs(3))
    garbage = (b"ustar and \xff more " * 4000)[:length]
    at = content.index(b"0001.jpg") * place
    path = write(content[:at] + garbage + content[at:])
    actual = members(path)
    assert [each.fault for each in actual].count(Fault.DAMAGED) == 1
    assert [each for each in actual if each.fault][0].start == at
    assert len([each for each in actual if each.name]) == 6


def test_concatenated_tars_are_one(write):
    path = write(packed(pairs(2)) + packed([member("b.jpg", b"x")]))
    assert [each.name for each in members(path)][-1] == b"b.jpg"
    assert not any(each.fault for each in members(path))


@pytest.mark.parametrize(
    "name, parts",
    [
        ("a.jpg", ("a", "jpg")),
        ("x.y/a.b.JPG", ("x.y/a", "b.JPG")),
        ("./a.jpg", ("./a", "jpg")),
        ("x/._a.jpg", ("", "")),
        ("x/README", ("", "")),
        ("x/a.", ("", "")),
        ("x.d/", ("", "")),
        ("", ("", "")),
    ],
)
def test_key_and_extension(name, parts):
    assert tuple(part.decode() for part in split_name(name.encode())) == parts


def test_samples_of_a_tar(write):
    listed = [*pairs(2), member("0001.JSON", b"{}"), member("x/0000.jpg", b"z")]
    path = write(packed(listed))
    index, kept = read_index(path)
    assert kept and index.trouble == "" and index.size == os.path.getsize(path)
    assert index.extensions == ("jpg", "txt", "json")
    assert index.counts() == {"jpg": 3, "txt": 2, "json": 1}
    assert index.rows.tolist() == [0, 0, 1, 1, 1, 2]
    offsets, sizes = index.column(["txt"])
    assert sizes.tolist() == [6, 6, -Fault.ABSENT]
    assert storage.read_range(path, int(offsets[1]), 6) == b"text 1"
    keys = [read_key(path, start) for start in index.starts.tolist()]
    assert keys == ["0000", "0001", "x/0000"]


@pytest.mark.parametrize(
    "content, trouble, samples",
    [
        (b"", "no files in it", 0),
        (b"\0" * 10240, "no files in it", 0),
        (b"\0" * 700, "no files in it", 0),
        (b"no tar", "not a tar", 1),
        (b"no tar " * 50000, "not a tar", 1),
        (packed(pairs(3))[: 5 * 512 + 100], "ends here", 2),
        (packed(pairs(3))[: 7 * 512 + 3], "ends here", 2),
        (packed(pairs(3))[: 8 * 512], "lacks the blocks", 2),
        (packed(pairs(3))[: 8 * 512 + 100], "lacks the blocks", 2),
    ],
)
def test_faults_of_a_whole_tar(write, content, trouble, samples):
    index, _ = read_index(write(content))
    assert trouble in index.trouble and len(index.starts) == samples


@pytest.mark.parametrize(
    "start", [b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"(\xb5/\xfd"]
)
def test_compressed_tars_must_be_unpacked(write, start):
    with pytest.raises(ClipinError, match="compressed .* unpack it to a plain .tar"):
        read_index(write(start + os.urandom(2000)))


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("beside", [True, False])
def test_an_index_is_saved_and_made_again_when_the_tar_changes(
    write, tmp_path, monkeypatch, beside
):
    path, folder = (
        write(packed(pairs(3))),
        "" if beside else str(tmp_path / "new" / "x"),
    )
    first, kept = read_index(path, folder)
    assert kept
    made = []
    make = tar_index._make
    monkeypatch.setattr(tar_index, "_make", lambda w: made.append(1) or make(w))
    assert equal(read_index(path, folder)[0], first) and not made
    os.utime(path, ns=(1, 1))
    assert equal(read_index(path, folder)[0], first) and len(made) == 1
    write(packed(pairs(4)))
    assert len(read_index(path, folder)[0].starts) == 4 and len(made) == 2
    kept_in = next((tmp_path if beside else tmp_path / "new" / "x").glob("*.npz"))
    sound = kept_in.read_bytes()
    for damaged in (b"", sound[:300], sound[:200] + b"\xff" * 50 + sound[250:]):
        kept_in.write_bytes(damaged)
        assert len(read_index(path, folder)[0].starts) == 4
        assert kept_in.read_bytes()[:2] == b"PK"
    assert len(made) >= 4


def test_an_index_follows_its_tar_when_it_is_replaced(write, tmp_path):
    path = write(packed(pairs(3)))
    read_index(path)
    os.replace(write(packed(pairs(5)), "b.tar"), path)
    assert len(read_index(path)[0].starts) == 5


def test_a_folder_that_cannot_be_written(write, tmp_path):
    path = write(packed(pairs(3)))
    os.mkdir(path + tar_index.SUFFIX)
    index, kept = read_index(path)
    assert not kept and len(index.starts) == 3
    assert not read_index(path, folder=path)[1]
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "a.tar" + tar_index.SUFFIX]


def test_remote_tars(tmp_path):
    url = f"memory://{tmp_path.name}/a.tar"
    for count in (3, 4):  # of the same size, as tars are padded
        infos = [(setattr(i, "mtime", count), (i, c))[1] for i, c in pairs(count)]
        with fsspec.open(url, "wb") as file:
            file.write(packed(infos))
        assert not read_index(url)[1]
        index, kept = read_index(url, str(tmp_path))
        assert kept and len(index.starts) == count
        assert equal(read_index(url, str(tmp_path))[0], index)
    assert read_key(url, int(index.starts[2])) == "0002"


def test_indexing_at_the_same_time(write, tmp_path):
    path = write(packed(pairs(300)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda _: read_index(path)[0], range(8)))
    assert all(equal(each, actual[0]) for each in actual)
    assert len(os.listdir(tmp_path)) == 2


def test_wrong_sizes_cost_no_memory(write):
    sound = packed(pairs(3))
    huge = [b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\x80\0\0\0\0\xff" + b"\0" * 6]
    for kind in (b"0", b"x", b"L", b"S", b"5"):
        for size in huge:
            header = sound[:124] + size + sound[136:156] + kind + sound[157:512]
            path = write(summed(header) + sound[512:])
            tracemalloc.start()
            members(path)
            assert tracemalloc.get_traced_memory()[1] < 1 << 21
            tracemalloc.stop()


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.sampled_from([0, 100, 124, 148, 156, 257, 345, 482]),
            st.binary(min_size=1, max_size=12), st.booleans(),
        ),
        min_size=1, max_size=4,
    ),
    st.integers(0, 30000),
)  # fmt: skip
def test_headers_changed_at_random(tmp_path_factory, changes, cut):
    content = bytearray(SOUND)
    for number, field, data, fix_checksum in changes:
        at = number * 512 % len(content)
        content[at + field : at + field + len(data)] = data
        if fix_checksum:
            content[at : at + 512] = summed(content[at : at + 512].ljust(512, b"\0"))
    path = tmp_path_factory.mktemp("fuzz") / "a.tar"
    path.write_bytes(content[: cut or None])
    logging.disable()
    try:
        actual, (index, _) = list(members(str(path))), read_index(str(path))
        again, _ = read_index(str(path))
    finally:
        logging.disable(logging.NOTSET)
    for each in actual:
        assert 0 <= each.start <= each.data and each.data + each.size <= len(content)
    assert all(0 <= row < len(index.starts) for row in index.rows.tolist())
    assert again.extensions == index.extensions


SOUND = packed([*pairs(6), member("ü" * 120 + ".jpg", b"x", pax_headers={"a": "b"})])
SOUND = SOUND[:-8192] + packed([member("n" * 150 + ".jpg", b"x")], tarfile.GNU_FORMAT)
