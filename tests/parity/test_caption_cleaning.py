"""Cleaned captions against those saved from the papers' codes: all equal."""

import json

import pytest

from clipin_jax.data.text import make_tokenizer
from clipin_jax.data.text.caption_cleaning import check_cleaning, clean_caption
from clipin_jax.errors import ClipinError

RULES = {"albef": "delete_punctuation", "blip": "space_punctuation"}


@pytest.mark.parametrize("paper", RULES)
def test_saved_captions(golden_folder, paper):
    saved = json.loads((golden_folder / "caption_cleaning.json").read_text("utf-8"))
    for caption in saved["captions"]:
        assert clean_caption(caption["text"], RULES[paper], 30) == caption[paper]


def test_without_a_rule_nothing_but_words_is_lost():
    text = "  Two-Way,\t words  here "
    assert clean_caption(text) == text
    assert clean_caption(text, max_words=3) == text
    assert clean_caption(text, max_words=2) == "Two-Way, words"
    check_cleaning("", 0)


def test_rows_are_those_of_cleaned_captions():
    plain = make_tokenizer(context_length=16)
    cleaned = make_tokenizer(
        context_length=16, cleaning="delete_punctuation", max_words=2
    )
    text = "It's black/white, isn't it?"
    assert (cleaned([text]) == plain(["its black"])).all()
    long = "a photo! " * 9
    assert plain.is_cut(long) and not cleaned.is_cut(long)
    assert cleaned.encode(text) == plain.encode(text)


def test_errors():
    with pytest.raises(ClipinError, match="did you mean 'delete_punctuation'"):
        make_tokenizer(cleaning="delete_punct")
    with pytest.raises(ClipinError, match="data.caption_words is -1"):
        make_tokenizer(max_words=-1)
