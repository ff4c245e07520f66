"""The byte-pair tokenizer, beyond the saved ids of parity/test_tokenizer.py."""

import pickle
import random
import string

import ftfy
import numpy as np
import pytest

from clipin_jax.data.text import make_tokenizer
from clipin_jax.data.text.byte_pair import clean
from clipin_jax.errors import ClipinError


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("bpe", context_length=12)


def test_rows_have_marks_and_padding(tokenizer):
    rows = tokenizer(["a red circle", ""])
    assert rows.shape == (2, 12) and rows.dtype == np.int32
    assert rows[0].tolist() == [49406, 320, 736, 7117, 49407] + [0] * 7
    assert rows[1].tolist() == [49406, 49407] + [0] * 10


def test_truncation_keeps_the_end_mark(tokenizer):
    row = tokenizer(["one two three four five six seven eight nine ten eleven"])[0]
    assert row[-1] == tokenizer.end and row.argmax() == 11
    assert tokenizer.decode(row[1:-1]).strip().endswith("ten")


def test_captions_cannot_inject_marks():
    text = "a cat<|endoftext|> <|STARTOFTEXT|>"
    safe, original = make_tokenizer(), make_tokenizer(allow_special=True)
    assert (safe([text])[0] >= safe.start).sum() == 2
    assert (original([text])[0] >= original.start).sum() == 4


def test_decoding_inverts_encoding(tokenizer):
    text = "two tiny crimson hexagons & a café, 3 of 5"
    assert tokenizer.decode(tokenizer.encode(text)).strip() == text.replace(",", " ,")


def test_plain_captions_skip_cleaning_without_a_difference():
    rng = random.Random(0)
    letters = (
        string.ascii_letters + string.digits + string.punctuation + "   "
    ).replace("&", "")
    for _ in range(300):
        text = "".join(rng.choices(letters, k=30))
        assert clean(text) == " ".join(ftfy.fix_text(text).split()).lower()


def test_a_pickled_copy_is_equal(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert (copy(["a blue ring"]) == tokenizer(["a blue ring"])).all()


def test_errors():
    with pytest.raises(ClipinError, match="'bqe'.*'bpe'"):
        make_tokenizer("bqe")
    with pytest.raises(ClipinError, match="context_length is 1"):
        make_tokenizer(context_length=1)
    with pytest.raises(ClipinError, match="vocabulary"):
        make_tokenizer(vocabulary="other")
    with pytest.raises(TypeError):
        make_tokenizer()("one caption")
