"""Captions to rows of token ids: tokenizers by name, cleaning, masking.

Imports `errors`, `registry` and `data.source`.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from clipin_jax import registry
from clipin_jax.data.text.byte_pair import BytePairTokenizer
from clipin_jax.data.text.sentence_piece import SentencePieceTokenizer
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.data.text.word_piece import WordPieceTokenizer
from clipin_jax.errors import ClipinError

TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "bpe": BytePairTokenizer,
    "sentencepiece": SentencePieceTokenizer,
    "wordpiece": WordPieceTokenizer,
}


def make_tokenizer(name: str = "bpe", context_length: int = 77, **cfg) -> Tokenizer:
    """Builds a tokenizer by name.

    Args:
      name: a key of `TOKENIZERS`, or "package.module:Class".
      context_length: L, the length of a row.
      cfg: the tokenizer's own arguments.

    Raises:
      ClipinError: no such tokenizer, or an argument that it does not take.
    """
    tokenizer = registry.find(TOKENIZERS, name, "data.tokenizer.name")
    try:
        return tokenizer(context_length=context_length, **cfg)
    except TypeError as error:
        raise ClipinError(f"data.tokenizer: {error}") from error


def caption_tokenizer(data: ConfigDict) -> Tokenizer:
    """The tokenizer of `config.data`, with what it says about captions."""
    return make_tokenizer(
        context_length=data.context_length,
        long_captions=data.long_captions,
        cleaning=data.caption_cleaning,
        max_words=data.caption_words,
        **data.tokenizer,
    )
