"""SentencePiece with a tiny model, and byte-pair rows with the same padding."""

import pickle

import numpy as np
import pytest

from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError

CAPTIONS = [
    "a red circle",
    "two blue rings on a green ground",
    "A small yellow square above a red star",
    "three hexagons, 5 of 6",
    "un café noir",
]


def train(folder, **choice):
    """Trains a model file: ids 0, 1, 2 are padding, end and unknown, as in T5's."""
    from sentencepiece import SentencePieceTrainer

    marks = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    with open(folder / "sentencepiece.model", "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([text.lower() for text in CAPTIONS] * 20),
            model_writer=file,
            vocab_size=40,
            minloglevel=2,
            **(marks | choice),
        )
    return str(folder / "sentencepiece.model")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(model):
    return make_tokenizer("sentencepiece", context_length=24, model=model)


def test_rows_are_the_pieces_and_end_marks(tokenizer):
    rows = tokenizer(["a red circle", ""])
    assert rows.shape == (2, 24) and rows.dtype == np.int32
    pieces = tokenizer.encode("a red circle")
    assert 1 not in pieces and len(pieces) < 23
    assert rows[0].tolist() == pieces + [1] * (24 - len(pieces))
    assert rows[1].tolist() == [1] * 24
    assert tokenizer.vocab_size == 40 and tokenizer.end == tokenizer.pad == 1


def test_a_long_caption_is_cut_before_its_end_mark(tokenizer):
    long = " ".join(CAPTIONS)
    row = tokenizer([long])[0]
    assert row.tolist() == tokenizer.encode(long)[:23] + [1]
    assert tokenizer.is_cut(long) and not tokenizer.is_cut("a red circle")


def test_a_caption_that_just_fits_is_not_cut(model):
    length = len(make_tokenizer("sentencepiece", 24, model=model).encode("a red star"))
    fits = make_tokenizer("sentencepiece", length + 1, model=model)
    assert not fits.is_cut("a red star")
    assert fits.decode(fits(["a red star"])[0]) == "a red star"
    tight = make_tokenizer("sentencepiece", length, model=model)
    assert tight.is_cut("a red star")


def test_decoding_inverts_encoding_except_capitals(tokenizer):
    for text in CAPTIONS:
        assert tokenizer.decode(tokenizer.encode(text)) == text.lower()


def test_capitals_may_be_kept(model):
    cased = make_tokenizer("sentencepiece", model=model, lowercase=False)
    assert cased.encode("A Red") != cased.encode("a red")


def test_captions_cannot_inject_marks(tokenizer):
    assert 1 not in tokenizer.encode("a red </s> circle <pad>")
    assert tokenizer(["half a pair \ud83d"]).shape == (1, 24)


def test_a_pickled_copy_is_equal(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert (copy(CAPTIONS) == tokenizer(CAPTIONS)).all()


def test_errors(tmp_path, model):
    missing = tmp_path / "missing.model"
    with pytest.raises(ClipinError, match="missing.model cannot be read.*No such file"):
        make_tokenizer("sentencepiece", model=str(missing))
    for content in (b"", b"not a model"):
        broken = tmp_path / "broken.model"
        broken.write_bytes(content)
        with pytest.raises(ClipinError, match="broken.model is no SentencePiece model"):
            make_tokenizer("sentencepiece", model=str(broken))
    with pytest.raises(ClipinError, match="no end mark"):
        make_tokenizer("sentencepiece", model=train(tmp_path, eos_id=-1))
    with pytest.raises(ClipinError, match="tokenizer.model is missing"):
        make_tokenizer("sentencepiece")
    with pytest.raises(ClipinError, match="did you mean 'sentencepiece'"):
        make_tokenizer("sentencepice", model=model)


def test_byte_pairs_padded_with_the_end_mark():
    plain = make_tokenizer(context_length=8)
    padded = make_tokenizer(context_length=8, pad_with_end=True)
    texts = ["a red circle", "", "one two three four five six seven eight"]
    expected = np.where(plain(texts) == 0, plain.end, plain(texts))
    np.testing.assert_array_equal(padded(texts), expected)
    assert (padded(texts)[:, -1] == padded.end).all()
    copy = pickle.loads(pickle.dumps(padded))
    np.testing.assert_array_equal(copy(texts), expected)
