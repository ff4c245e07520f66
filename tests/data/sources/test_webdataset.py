"""Tars of samples as a source: sound ones, and all that can be wrong with one."""

import concurrent.futures
import io
import json
import logging
import os
import pickle
import tarfile

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError


def tar_of(*members, form=tarfile.PAX_FORMAT):
    """A tar of (name, content) pairs, or of headers that are there already."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def pair(key, text="text"):
    return (f"{key}.jpg", f"image {key}".encode()), (f"{key}.txt", text.encode())


@pytest.fixture
def write(tmp_path):
    def write(content, name="00000.tar"):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def open_tars(files, **cfg):
    return make_source(name="webdataset", files=files, **cfg)


def bad(source):
    """Index -> reason of each bad record, by both ways to read one."""
    reasons = {}
    for index in range(len(source)):
        for read in (source.__getitem__, source.annotations):
            try:
                read(index)
                assert index not in reasons
            except BadRecord as error:
                assert reasons.setdefault(index, str(error)) == str(error)
    return reasons


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


@pytest.mark.parametrize(
    "content, name",
    [
        (b"<html>404</html>", "an HTML page"),
        (b"\n<!DOCTYPE HTML>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git-LFS pointer"),
        (b"<?xml version='1.0'?><Error/>", "an XML page"),
        (b"PK\x03\x04" + b"x" * 600, "a ZIP archive"),
    ],
)
def test_a_file_that_is_no_tar_is_called_what_it_is(write, caplog, content, name):
    path = write(content)
    with pytest.raises(ClipinError, match=f"not a tar, but {name}.*source.files"):
        open_tars(path)
    source = open_tars([path, write(tar_of(*pair("a")), "b.tar")])
    assert len(source) == 2 and f"not a tar, but {name}" in caplog.text


@pytest.mark.parametrize("extension", ["jfif", "JPE", "avif"])
def test_rare_extensions_of_images(write, extension):
    path = write(tar_of((f"a.{extension}", b"1"), ("a.txt", b"text")))
    assert open_tars(path)[0]["image"] == b"1"


def test_a_tar_with_every_kind_of_bad_record(write, caplog):
    cut = tar_of(("y.txt", b"text"), ("y.jpg", b"x" * 2000))[: 3 * 512 + 700]
    content = b"".join(
        [
            tar_of(*pair("good0"), ("no-image.txt", b"text"), ("no-text.jpg", b"x")),
            tar_of(("empty-image.jpg", b""), ("empty-image.txt", b"text")),
            tar_of(("empty-text.jpg", b"x"), ("empty-text.txt", b"")),
            tar_of(("blank-text.jpg", b"x"), ("blank-text.txt", b" \n")),
            tar_of(("latin.jpg", b"x"), ("latin.txt", b"gr\xfcn")),
            tar_of(special("link.jpg", b"2", "good.jpg"), ("link.txt", b"text")),
            tar_of(("hard.jpg", b"x"), special("hard.txt", b"1", "good.txt")),
            tar_of(special("device.jpg", b"3"), ("device.txt", b"text")),
            tar_of(special("sparse.jpg", b"S"), ("sparse.txt", b"t"), form=0),
            tar_of(*pair("good0"), *pair("twice"), *pair("twice")),
            tar_of(special("folder.jpg", b"5"), ("README", b"x"), ("._h.jpg", b"x")),
            b"garbage" * 100,
            tar_of(*pair("../good1"), *pair("/good2")),
            cut,
        ]
    )
    source = open_tars(write(content))
    reasons = {
        source.describe(index).partition(" in ")[0].partition(" ")[0]: reason
        for index, reason in bad(source).items()
    }
    assert reasons == {
        "no-image": "image: missing",
        "no-text": "no caption",
        "empty-image": "image: empty",
        "empty-text": "no caption",
        "blank-text": "no caption",
        "good0": "the key occurs twice in this tar",
        "byte": "damaged: no header of a tar where one should be",
        "latin": "txt: not UTF-8",
        "link": "image: a link, not a file",
        "hard": "txt: a link, not a file",
        "device": "image: a device or a sparse file, not a plain one",
        "sparse": "image: a device or a sparse file, not a plain one",
        "twice": "two of its files have the same extension",
        "y": "truncated: the tar ends here",
    }
    assert len(source) == 3 + 14
    assert caplog.text.count("00000.tar: ") == 1
    assert "the tar ends here" in caplog.text


def test_a_kind_may_be_missing_if_there_is_another(write):
    meta = b'{"alt": "from json"}'
    path = write(
        tar_of(*pair("a"), ("b.jpg", b"x"), ("b.json", meta), ("c.jpg", b"x"),
               *pair("d"), ("d.json", b"{"))
    )  # fmt: skip
    source = open_tars(path, captions=("txt", "json:alt"))
    assert source[0]["kinds"] == ("txt",) and source[1]["kinds"] == ("json:alt",)
    assert bad(source) == {2: "no caption", 3: "json: no valid JSON"}


def test_one_bad_tar_among_others(write, tmp_path, caplog):
    contents = [tar_of(*pair("a")), b"", b"no tar at all", tar_of(), tar_of(*pair("b"))]
    for number, content in enumerate(contents):
        write(content, f"{number}.tar")
    source = open_tars(str(tmp_path / "*.tar"))
    assert len(source) == 3 and bad(source) == {1: "not a tar"}
    assert source.describe(1) == f"byte 0 in {tmp_path}/2.tar"
    for text in ("1.tar: no files in it", "2.tar: not a tar", "3.tar: no files in it"):
        assert text in caplog.text


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


def test_tars_without_any_sample(write):
    with pytest.raises(
        ClipinError, match="of 1 tars, .*; there are 1 x no files in it"
    ):
        open_tars(write(tar_of()))


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


def test_a_tar_that_is_cut_while_it_is_read(write):
    content = tar_of(*pair("a"), ("b.jpg", b"x" * 3000), ("b.txt", b"text"))
    source = open_tars(write(content))
    write(content[: 5 * 512])
    assert bad(source) == {1: "truncated: the tar is shorter than it was"}
    os.unlink(source.describe(0).partition(" in ")[2])
    assert source.describe(0).startswith("byte 0 in ")


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


SOUND = tar_of(
    *pair("a"), ("a.json", b'{"caption": "one", "label": 1}'), *pair("folder/b"),
    ("folder/b.json", b'{"caption": ["two", "three"], "label": 0}'),
    *pair("l" * 120), ("c.webp", b"x" * 600), ("c.json", b'{"caption": "four"}'),
)  # fmt: skip


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SOUND) - 4096),
            st.sampled_from(["flip", "insert", "cut", "remove"]),
            st.binary(min_size=1, max_size=600),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_random_damage_is_reported(tmp_path_factory, changes):
    content = SOUND
    for at, kind, data in changes:
        behind = {"insert": at, "cut": len(content)}.get(kind, at + len(data))
        put = b"" if kind in ("cut", "remove") else data
        content = content[:at] + put + content[behind:]
    path = tmp_path_factory.mktemp("fuzz") / "0.tar"
    path.write_bytes(content)
    logging.disable()
    try:
        cfg = dict(captions=("json:caption", "txt"), label="json:label")
        source = open_tars(str(path), **cfg)
    except ClipinError:
        return
    finally:
        logging.disable(logging.NOTSET)
    for index in range(len(source)):
        assert source.describe(index).endswith(".tar")
        try:
            assert source[index].keys() == {"image", "captions", "kinds", "label"}
        except BadRecord as error:
            assert len(str(error)) < 100
