"""Every tokenizer of `TOKENIZERS` gives complete rows, equal in other processes."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipin_jax.data.text import TOKENIZERS, make_tokenizer
from clipin_jax.errors import ClipinError
from tests.data.text.test_sentence_piece import train

LENGTH = 12
TEXTS = ["a red circle", "", "ein Fuß, 2 Füße! 猫" * 9]


def arguments_of(name: str, folder: Path) -> dict[str, Any]:
    """Returns the arguments that a tokenizer cannot be built without."""
    return {"model": train(folder)} if name == "sentencepiece" else {}


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def tokenizer(request, tmp_path_factory) -> Any:
    name = request.param
    arguments = arguments_of(name, tmp_path_factory.mktemp("tokenizer"))
    try:
        return make_tokenizer(name, context_length=LENGTH, **arguments)
    except ClipinError as error:
        raise AssertionError(
            f"{name!r} cannot be built from {arguments}: {error}. Add its smallest "
            f"arguments to `arguments_of` in {__file__}"
        ) from error


def test_rows_are_ids_with_marks_and_padding(tokenizer):
    rows = tokenizer(TEXTS)
    assert rows.shape == (len(TEXTS), LENGTH) and rows.dtype == np.int32
    assert rows.min() >= 0 and rows.max() < tokenizer.vocab_size
    assert rows[1][-1] == tokenizer.pad and rows[2][-1] == tokenizer.end
    assert [tokenizer.is_cut(text) for text in TEXTS] == [False, False, True]
    ids = tokenizer.encode(TEXTS[0])
    assert not set(ids) & {tokenizer.start, tokenizer.end, tokenizer.pad}
    assert tokenizer.decode(ids).split() == TEXTS[0].split()


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_wrong_argument_names_the_nearest(name):
    with pytest.raises(ClipinError, match="did you mean 'long_captions'"):
        make_tokenizer(name, long_caption="error")


def test_rows_are_the_same_in_another_process(tokenizer):
    other = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(other(TEXTS), tokenizer(TEXTS))
