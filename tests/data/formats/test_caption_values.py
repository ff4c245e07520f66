"""Which values are captions, and which only look like some."""

import json

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.formats.caption_values import caption_texts
from clipin_jax.data.source import BadRecord, clean_captions, has_text
from clipin_jax.data.text.captions import CaptionChoice
from tests.support.tables import bad_record_reason, open_text_table
from tests.support.tars import open_tars, tar_of

BLANK = [
    "", " \t\n", "\u00a0", "&nbsp;", "&nbsp;&nbsp; ", "&amp;nbsp;", "&#160;",
    "&#x200b;", "&emsp;&zwnj;", "\ufeff", "\u200b\u200d\u2060", "\u200e", "\x00\x1f",
    "\u3164", "\u2800", "\ufe0f", "\u3000",
]  # fmt: skip


@pytest.mark.parametrize("text", BLANK)
def test_what_no_reader_sees_is_no_caption(text, tmp_path):
    assert not has_text(text) and clean_captions([text, "a dog"]) == ("a dog",)
    lines = json.dumps({"filepath": "a.jpg", "title": text}) + "\n"
    table = open_text_table(tmp_path, lines, "t.jsonl")
    assert bad_record_reason(table, 0) == "no caption"
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar_of(("0.jpg", b"x"), ("0.txt", text.encode() + b"\n")))
    assert bad_record_reason(open_tars(str(tar)), 0) == "no caption"
    annotations = {"images": [{"id": 0, "file_name": "a.jpg"}]}
    annotations["images"].append({"id": 1, "file_name": "a.jpg"})
    annotations["annotations"] = [
        {"image_id": 0, "caption": text},
        {"image_id": 1, "caption": "a dog"},
    ]
    (tmp_path / "captions_train.json").write_text(json.dumps(annotations))
    coco = make_source(name="coco", folder=str(tmp_path), images="")
    assert len(coco) == 1


@pytest.mark.parametrize(
    "text", ["a", "7", "\U0001f436", "...", "\u4e2d", "&lt;", "&nbsp;a", "\ufeffb", "?"]
)
def test_what_a_reader_sees_is_one(text):
    assert has_text(text)


@pytest.mark.parametrize("text", ["&nbsp;", "\u200b"])
def test_sources_of_other_packages_are_checked_too(text):
    with pytest.raises(BadRecord, match="an empty caption"):
        CaptionChoice(()).shares({"captions": ("a dog", text)})


def test_a_caption_that_cleaning_empties():
    captions = {"captions": ("...",)}
    assert CaptionChoice(()).shares(captions) is None
    with pytest.raises(BadRecord, match="data.caption_cleaning=delete_punctuation"):
        CaptionChoice((), "delete_punctuation").shares(captions)


@pytest.mark.parametrize(
    "value, texts",
    [
        (None, []),
        ("a dog", ["a dog"]),
        (b"a dog", ["a dog"]),
        ([b"a", "b", None], ["a", "b"]),
        ('["a dog", "a cat"]', ["a dog", "a cat"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[a dog]", ["[a dog]"]),
        ("{a dog}", ["{a dog}"]),
    ],
)
def test_values(value, texts):
    assert caption_texts(value, "title") == texts


@pytest.mark.parametrize(
    "value, reason",
    [
        ('{"en": "a dog"}', "title: a JSON object with the keys 'en', not a caption"),
        (['{"en": "a dog"}'], "a JSON object"),
        (b"\xff", "title: not UTF-8"),
        (np.float32(1), "neither text nor a list of texts"),
    ],
)
def test_other_values_are_bad(value, reason):
    with pytest.raises(BadRecord, match=reason):
        caption_texts(value, "title")


def test_json_in_cells(tmp_path):
    lines = [
        {"filepath": "a.jpg", "title": '["one", "two"]'},
        {"filepath": "a.jpg", "title": '{"en": "one"}'},
    ]
    source = open_text_table(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl")
    assert source[0]["captions"] == ("one", "two")
    assert "a JSON object with the keys 'en'" in bad_record_reason(source, 1)
