"""Tars that are damaged: every bad record has its reason."""

import logging
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from tests.support.tars import bad, open_tars, pair, special, tar_of


@pytest.fixture
def write(tmp_path):
    def write(content, name="00000.tar"):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


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


def test_one_bad_tar_among_others(write, tmp_path, caplog):
    contents = [tar_of(*pair("a")), b"", b"no tar at all", tar_of(), tar_of(*pair("b"))]
    for number, content in enumerate(contents):
        write(content, f"{number}.tar")
    source = open_tars(str(tmp_path / "*.tar"))
    assert len(source) == 3 and bad(source) == {1: "not a tar"}
    assert source.describe(1) == f"byte 0 in {tmp_path}/2.tar"
    for text in ("1.tar: no files in it", "2.tar: not a tar", "3.tar: no files in it"):
        assert text in caplog.text


def test_tars_without_any_sample(write):
    with pytest.raises(
        ClipinError, match="of 1 tars, .*; there are 1 x no files in it"
    ):
        open_tars(write(tar_of()))


def test_a_tar_that_is_cut_while_it_is_read(write):
    content = tar_of(*pair("a"), ("b.jpg", b"x" * 3000), ("b.txt", b"text"))
    source = open_tars(write(content))
    write(content[: 5 * 512])
    assert bad(source) == {1: "truncated: the tar is shorter than it was"}
    os.unlink(source.describe(0).partition(" in ")[2])
    assert source.describe(0).startswith("byte 0 in ")


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
