"""Tars of samples as a source."""

import concurrent.futures
import json
import os
import pickle
import tarfile

import fsspec
import pytest

from clipin_jax.errors import ClipinError
from tests.support.tars import bad, open_tars, pair, tar_of


@pytest.fixture
def write(tmp_path):
    def write(content, name="00000.tar"):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def test_records(write, tmp_path):
    meta = {"caption": ["one", " two "], "more": {"alt": "three"}, "class": 1}
    sample = [
        ("x/a.b/1.JPG", b"image"),
        ("x/a.b/1.txt", " grün \n".encode()),
        ("x/a.b/1.json", json.dumps(meta).encode()),
        ("x/a.b/1.cls", b"2\n"),
    ]
    write(tar_of(*sample, *pair("x/1")))
    write(tar_of(*pair("x/a.b/1", "another")), "00001.tar")
    pattern = str(tmp_path / "{00000..00001}.tar")
    source = open_tars(pattern)
    assert len(source) == 3 and source.classes == ()
    assert source[0] == {"image": b"image", "captions": ("grün",)}
    assert source[2] == {"image": b"image x/a.b/1", "captions": ("another",)}
    assert source.annotations(1) == {"captions": ("text",)}
    assert source.describe(0) == f"x/a.b/1 in {tmp_path}/00000.tar"
    assert source.describe(2) == f"x/a.b/1 in {tmp_path}/00001.tar"
    for index in (-1, 3):
        with pytest.raises(IndexError):
            source[index]
    several = open_tars(
        (pattern,),
        captions=("json:more.alt", "txt", "json:caption"),
        label="json:class",
        classes=("cat", "dog"),
    )
    assert several.annotations(0) == {
        "captions": ("three", "grün", "one", "two"),
        "kinds": ("json:more.alt", "txt", "json:caption", "json:caption"),
        "label": 1,
    }
    assert open_tars(pattern, label="cls")[0]["label"] == 2
    assert several.classes == ("cat", "dog")


def test_as_the_standard_library_groups_them(write):
    members = []
    for number in range(50):
        key = f"part{number // 7}/{number:05}"
        members += [
            *pair(key, f"text {number}"),
            (f"{key}.seg.png", b"not the image"),
        ]
        members += [(f"part{number // 7}/._{number:05}.jpg", b"hidden")] * (number % 2)
    path = write(tar_of(*members))
    expected = {}
    with tarfile.open(path) as tar:
        for info in tar:
            folder, base = os.path.split(info.name)
            if not base.startswith("."):
                key, _, extension = base.partition(".")
                sample = expected.setdefault(f"{folder}/{key}", {})
                file = tar.extractfile(info)
                sample[extension] = file.read() if file else None
    source = open_tars(path)
    actual = {
        source.describe(index).partition(" in ")[0]: source[index]
        for index in range(len(source))
    }
    assert actual == {
        key: {"image": sample["jpg"], "captions": (sample["txt"].decode(),)}
        for key, sample in expected.items()
    }


def test_which_file_is_the_image(write):
    path = write(
        tar_of(
            ("a.seg.png", b"1"), ("a.png", b"2"), ("a.jpg", b"3"), ("a.txt", b"text"),
            ("b.left.jpg", b"4"), ("b.txt", b"text"),
        )
    )  # fmt: skip
    assert open_tars(path)[0]["image"] == b"2"
    assert bad(open_tars(path)) == {1: "image: missing"}
    assert open_tars(path, image="left.jpg")[1]["image"] == b"4"
    assert open_tars(path, image="jpg")[0]["image"] == b"3"


def members_apart(keys, extensions=("jpg", "txt")):
    """All files of an extension, then those of the next one."""
    return [
        (f"{key}.{extension}", f"{extension} of {key}".encode())
        for extension in extensions
        for key in keys
    ]


@pytest.mark.parametrize(
    "members",
    [
        members_apart("012"),
        members_apart("012", ("txt", "json", "jpg")),
        [*members_apart("01"), *members_apart("2")],
        [*members_apart("0"), *reversed(members_apart("12"))],
    ],
)
def test_files_of_a_sample_that_are_apart_are_joined(write, caplog, members):
    source = open_tars(write(tar_of(*members)))
    assert len(source) == 3 and not bad(source) and not caplog.text
    records = {source.describe(n)[0]: source[n] for n in range(3)}
    assert records == {
        key: {"image": f"jpg of {key}".encode(), "captions": (f"txt of {key}",)}
        for key in "012"
    }


def test_a_sample_that_comes_again_is_not_joined(write):
    members = [*pair("0"), *pair("1"), *pair("0", "another"), ("1.json", b"{}")]
    source = open_tars(write(tar_of(*members)))
    assert bad(source) == {2: "the key occurs twice in this tar"}
    assert source[0]["captions"] == ("text",)


def test_too_many_samples_are_left_apart(write, monkeypatch):
    monkeypatch.setattr("clipin_jax.data.formats.tar_index._MOST_APART", 2)
    with pytest.raises(ClipinError, match="has an image and txt"):
        open_tars(write(tar_of(*members_apart("012"))))


@pytest.mark.parametrize("extension", ["jfif", "JPE", "avif"])
def test_rare_extensions_of_images(write, extension):
    path = write(tar_of((f"a.{extension}", b"1"), ("a.txt", b"text")))
    assert open_tars(path)[0]["image"] == b"1"


def test_a_kind_may_be_missing_if_there_is_another(write):
    meta = b'{"alt": "from json"}'
    path = write(
        tar_of(*pair("a"), ("b.jpg", b"x"), ("b.json", meta), ("c.jpg", b"x"),
               *pair("d"), ("d.json", b"{"))
    )  # fmt: skip
    source = open_tars(path, captions=("txt", "json:alt"))
    assert source[0]["kinds"] == ("txt",) and source[1]["kinds"] == ("json:alt",)
    assert bad(source) == {2: "no caption", 3: "json: no valid JSON"}


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(files="{0..3}.tar"), "no file 1.tar"),
        (dict(files=()), "it must name files"),
        (dict(files=""), "it must name files"),
        (dict(files=7), "source 'webdataset'"),
        (dict(captions="json:"), "captions has 'json:'"),
        (dict(captions="json:a..b"), "captions has 'json:a..b'"),
        (dict(captions=""), "captions has ''"),
        (dict(captions=()), "captions is \\(\\); it must name one part"),
        (dict(captions=("txt", "txt")), "several different ones"),
        (dict(label="cls:"), "label has 'cls:'"),
        (dict(classes=("cat",)), "webdataset.label none"),
        (dict(index="gs://bucket"), "must be a local folder"),
        (
            dict(captions="text"),
            "has an image and text; there are 1 x 'jpg', 1 x 'txt'",
        ),
        (dict(label="cls"), "has an image and txt and cls; .* set source.captions"),
        (dict(image="left.jpg"), "set source.captions, source.label and source.image"),
        (dict(caption="txt"), "did you mean 'captions'"),
        (dict(files="9.tar"), "0.*9.tar cannot be read|compressed"),
    ],
)
def test_wrong_arguments(write, tmp_path, monkeypatch, wrong, message):
    monkeypatch.chdir(tmp_path)
    write(tar_of(*pair("a")), "0.tar")
    write(b"\x1f\x8b" + b"x" * 2000, "9.tar")
    with pytest.raises(ClipinError, match=message):
        open_tars(**{"files": "0.tar", **wrong})


@pytest.mark.parametrize(
    "argument, extension, key",
    [
        ("captions", "json", "json:caption"),
        ("captions", "meta.json", "meta.json:caption"),
        ("label", "json", "json:"),
    ],
)
def test_a_whole_json_file_is_no_caption(write, argument, extension, key):
    content = json.dumps({"url": "u", "caption": "a dog", "class": 1}).encode()
    path = write(tar_of(*pair("0"), (f"0.{extension}", content)))
    with pytest.raises(ClipinError, match=f"source.{argument}='{key}.*'url', 'capt"):
        open_tars(path, **{argument: extension})


@pytest.mark.parametrize("content", [b'["a dog", " "]', b'"a dog"'])
def test_a_json_file_may_be_a_text_or_a_list(write, content):
    path = write(tar_of(("0.jpg", b"x"), ("0.json", content)))
    assert open_tars(path, captions="json")[0]["captions"] == ("a dog",)


@pytest.mark.parametrize("size", [100, 200000])
def test_remote_tars(tmp_path, caplog, size):
    url = f"memory://{tmp_path.name}/0.tar"
    with fsspec.open(url, "wb") as file:
        between = ("a.bin", b"x" * size)
        file.write(tar_of(("a.jpg", b"image"), between, ("a.txt", b"text")))
    source = open_tars(url.replace("0.tar", "*.tar"))
    assert source[0] == {"image": b"image", "captions": ("text",)}
    assert source.describe(0).startswith("a in memory://")
    assert caplog.text.count("set source.index") == 1
    caplog.clear()
    assert open_tars(url, index=str(tmp_path)).fingerprint == source.fingerprint
    assert not caplog.text and len(list(tmp_path.glob("*.npz"))) == 1


def test_different_data_has_different_fingerprints(tmp_path, write):
    content = tar_of(*pair("a"), ("a.cls", b"1"))
    write(content)
    os.mkdir(tmp_path / "moved")
    write(content, "moved/00000.tar")
    path, moved = str(tmp_path / "00000.tar"), str(tmp_path / "moved" / "*")
    first = open_tars(path)
    prints = {
        first.fingerprint,
        open_tars(moved).fingerprint,
        open_tars(path).fingerprint,
    }
    assert len(prints) == 1
    prints.add(open_tars(path, label="cls").fingerprint)
    write(tar_of(*pair("a", "another text"), ("a.cls", b"1")))
    prints.add(open_tars(path).fingerprint)
    prints.add(open_tars(write(content, "b.tar")).fingerprint)
    assert len(prints) == 4


def test_workers_and_threads(write):
    count = 2000
    parts = (part for n in range(count) for part in pair(f"{n:05}", f"text {n}"))
    source = open_tars(write(tar_of(*parts)))
    sent = pickle.dumps(source)
    assert len(sent) / count < 50  # 10 million records in half a GiB
    source = pickle.loads(sent)

    def check(number):
        index = number * 7 % count
        return source[index] == {
            "image": f"image {index:05}".encode(),
            "captions": (f"text {index}",),
        }

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(4000)))
