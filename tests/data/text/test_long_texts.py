"""Captions and words of any length cost little, and the ids that are kept are equal."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax.data.text import make_tokenizer
from clipin_jax.data.text.byte_pair import merge_pairs
from tests.data.text.test_sentence_piece import train

LONGEST = 5.0  # seconds; a loop of quadratic cost takes minutes


def letters(count, seed=0):
    return "".join(random.Random(seed).choices("acdefghiklmnpqrstvwy", k=count))


def merge_by_loop(parts, ranks):
    """Merges every occurrence of the pair with the lowest rank, again and again."""
    parts = list(parts)
    while pairs := [
        pair for pair in zip(parts, parts[1:], strict=False) if pair in ranks
    ]:
        best = min(pairs, key=lambda pair: ranks[pair])
        place = 0
        while place < len(parts) - 1:
            if (parts[place], parts[place + 1]) == best:
                parts[place : place + 2] = [parts[place] + parts[place + 1]]
            place += 1
    return parts


@pytest.fixture(scope="module")
def byte_pair():
    return make_tokenizer("bpe", context_length=16)


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "unigram", "sp-bpe"])
def tokenizer(request, tmp_path_factory):
    if request.param in ("bpe", "wordpiece"):
        return make_tokenizer(request.param, context_length=16)
    kind = {"unigram": "unigram", "sp-bpe": "bpe"}[request.param]
    model = train(tmp_path_factory.mktemp("model"), model_type=kind)
    return make_tokenizer("sentencepiece", context_length=16, model=model)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(word=st.text(st.sampled_from("aehinorst.!x"), min_size=1, max_size=60))
def test_the_queue_merges_as_the_loop_does(byte_pair, word):
    parts = [*word[:-1], word[-1] + "</w>"]
    ranks = byte_pair._vocabulary.ranks
    assert merge_pairs(parts, ranks) == merge_by_loop(parts, ranks)


@pytest.mark.parametrize(
    "word", [letters(400), "a" * 400, "ab" * 200, "." * 400, "na" * 150, "haha" * 60]
)
def test_long_words_up_to_the_bound(byte_pair, word):
    assert len(word) <= byte_pair._longest_word
    parts = [*word[:-1], word[-1] + "</w>"]
    expected = merge_by_loop(parts, byte_pair._vocabulary.ranks)
    ids = [byte_pair._vocabulary.ids[part] for part in expected]
    assert byte_pair.encode(word) == ids


@pytest.mark.parametrize("word", [letters(4000), "." * 4000, "haha" * 1000])
def test_the_kept_ids_are_those_of_the_whole_word(byte_pair, word):
    parts = [*word[:-1], word[-1] + "</w>"]
    merged = merge_pairs(parts, byte_pair._vocabulary.ranks)
    ids = [byte_pair._vocabulary.ids[part] for part in merged]
    assert byte_pair([word])[0].tolist()[1:-1] == ids[:14]
    assert byte_pair.is_cut(word)


@pytest.mark.parametrize(
    "text",
    [
        letters(64_000),
        letters(1_000_000),
        "\u4e2d" * 64_000,
        "." * 64_000,
        "&nbsp;" * 20_000 + "a",
        "a dog " * 100_000,
    ],
    ids=lambda text: f"{text[:3]}{len(text)}",
)
def test_nothing_hangs(tokenizer, text):
    start = time.perf_counter()
    row = tokenizer([f"a red {text}"])[0]
    tokenizer.encode(text)
    assert time.perf_counter() - start < LONGEST
    assert row[0] == tokenizer(["a red circle"])[0][0]


def test_long_captions_do_not_fill_the_cache(byte_pair):
    before = byte_pair._cached_row.cache_info().currsize
    words = byte_pair._word.cache_info().currsize
    byte_pair([letters(5000, seed) for seed in range(5)])
    assert byte_pair._cached_row.cache_info().currsize == before
    assert byte_pair._word.cache_info().currsize == words


def test_a_long_caption_has_the_first_ids_of_all(tokenizer):
    text = " ".join(letters(5, seed) for seed in range(20_000))
    ids = tokenizer.encode(text)
    row = tokenizer([text])[0].tolist()
    begin = int(row[0] == tokenizer.start)
    assert row[begin:-1] == ids[: 15 - begin]
    assert row[-1] == tokenizer.end and tokenizer.is_cut(text)
