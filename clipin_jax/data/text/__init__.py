"""Turns captions into rows of token ids: tokenizers, cleaning, masking, choice.

Imports `errors`, `registry`, `data.source` and `data.scenes`.
"""

from collections.abc import Callable
from typing import Any

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


def make_tokenizer(
    name: str = "bpe", context_length: int = 77, **arguments: Any
) -> Tokenizer:
    """Builds a tokenizer by name.

    Args:
      name: a key of `TOKENIZERS`, or "package.module:Class".
      context_length: L, the length of a row.
      **arguments: of the tokenizer.

    Raises:
      ClipinError: no such tokenizer, or an argument that it does not take.
    """
    tokenizer = registry.find(TOKENIZERS, name, "data.tokenizer.name")
    arguments["context_length"] = context_length
    registry.check_arguments(tokenizer, arguments, "data.tokenizer")
    try:
        return tokenizer(**arguments)
    # A class that passes arguments on may refuse one itself.
    except TypeError as error:
        raise ClipinError(f"data.tokenizer: {error}") from error


def caption_tokenizer(data: ConfigDict) -> Tokenizer:
    """Builds the tokenizer of `config.data`, with its options of captions."""
    return make_tokenizer(
        context_length=data.context_length,
        long_captions=data.long_captions,
        cleaning=data.caption_cleaning,
        max_words=data.caption_words,
        **data.tokenizer,
    )
