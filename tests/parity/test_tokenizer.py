"""Token ids equal those of public tokenizers."""

import re

import pytest

from clipin_jax.data.text.byte_pair import BytePairTokenizer, clean
from tests.parity.golden_files import load_json

OPEN_CLIP = ("<start_of_text>", "<end_of_text>")


@pytest.fixture(scope="module")
def saved(golden_folder):
    return load_json(golden_folder, "clip_tokenizer.json")


@pytest.fixture(scope="module")
def open_clip():
    return BytePairTokenizer(allow_special=True, special_tokens=OPEN_CLIP)


def test_vocabulary(saved, open_clip):
    assert open_clip.vocab_size == saved["vocab_size"]
    assert (open_clip.start, open_clip.end) == (saved["sot"], saved["eot"])


def test_ids_and_cleaning(saved, open_clip):
    for text in saved["texts"]:
        assert clean(text["text"]) == text["clean"]
        assert open_clip.encode(text["text"]) == text["ids"], text["text"]


def test_ids_of_openai_clip(saved):
    original = BytePairTokenizer(allow_special=True)
    for text in saved["texts"]:
        ids = text.get("openai_ids", text["ids"])
        assert original.encode(text["text"]) == ids, text["text"]


def test_no_special_tokens_by_default(saved):
    plain = BytePairTokenizer()
    for text in saved["texts"]:
        ids = plain.encode(text["text"])
        assert not {plain.start, plain.end} & set(ids), text["text"]
        assert ids in (text["ids"], text.get("openai_ids", text["ids"]))


def test_rows(saved):
    """Rows with start and end marks, cut to the lengths that the file has."""
    first, *_ = saved["texts"]
    lengths = [int(key[3:]) for key in first if re.fullmatch(r"row\d+", key)]
    assert lengths
    for length in lengths:
        tokenizer = BytePairTokenizer(length, True, OPEN_CLIP)
        rows = tokenizer([text["text"] for text in saved["texts"]])
        for row, text in zip(rows, saved["texts"], strict=True):
            expected = text[f"row{length}"]
            assert row.tolist() == expected + [0] * (length - len(expected))


def test_decode(saved, open_clip):
    for text in saved["texts"]:
        assert open_clip.decode(text["ids"]) == text["decode"]
