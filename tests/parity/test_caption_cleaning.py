"""Cleaned captions equal those of the published code."""

import pytest

from clipin_jax.data.text import make_tokenizer
from clipin_jax.data.text.caption_cleaning import check_cleaning, clean_caption
from clipin_jax.errors import ClipinError
from tests.parity.golden_files import load_json

RULES = {"albef": "delete_punctuation", "blip": "space_punctuation"}
MAX_WORDS = 30  # in both


@pytest.mark.parametrize("paper", RULES)
def test_cleaned_captions(golden_folder, paper):
    saved = load_json(golden_folder, "caption_cleaning.json")
    for caption in saved["captions"]:
        ours = clean_caption(caption["text"], RULES[paper], MAX_WORDS)
        assert ours == caption[paper]


def test_without_a_rule_only_the_word_limit_applies():
    text = "  Two-Way,\t words  here "
    assert clean_caption(text) == text
    assert clean_caption(text, max_words=3) == text
    assert clean_caption(text, max_words=2) == "Two-Way, words"
    check_cleaning("", 0)


def test_tokenizer_cleans_captions():
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
