"""Turns captions into rows of token ids: tokenizers, cleaning, masking, choice.

Imports `errors`, `registry`, `data.source` and `data.scenes`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax import registry
from clipin_jax.data.text.byte_pair import BytePairTokenizer
from clipin_jax.data.text.sentence_piece import SentencePieceTokenizer
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.data.text.word_piece import WordPieceTokenizer
from clipin_jax.errors import ClipinError, explained

TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "bpe": BytePairTokenizer,
    "sentencepiece": SentencePieceTokenizer,
    "wordpiece": WordPieceTokenizer,
}


_PAGE = "clipin_jax/data/text/tokenizer.py"
_MEMBERS = (
    "vocab_size", "context_length", "start", "end", "pad", "mask_id", "never_masked",
    "is_cut", "encode", "decode", "__call__",
)  # fmt: skip


def make_tokenizer(
    name: str = "bpe", context_length: int = 77, **arguments: Any
) -> Tokenizer:
    """Builds a tokenizer by name.

    Args:
      name: a key of `TOKENIZERS`, or "package.module:Class".
      context_length: L, the length of a row.
      **arguments: of the tokenizer.

    Returns:
      A tokenizer: B texts to ids, [B, L] int32.

    Raises:
      ClipinError: no such tokenizer, or an argument that it does not take.
    """
    tokenizer = registry.find(TOKENIZERS, name, "data.tokenizer.name")
    arguments["context_length"] = context_length
    registry.check_arguments(tokenizer, arguments, "data.tokenizer")
    built = registry.construct(tokenizer, "data.tokenizer", **arguments)
    _check(built, context_length)
    return built


def _check(tokenizer: Tokenizer, context_length: int) -> None:
    """Checks the members of a tokenizer, and a row of it. Raises ClipinError."""
    where, name = "data.tokenizer.name", type(tokenizer).__name__
    registry.check_members(tokenizer, _MEMBERS, where, _PAGE)
    with explained("data.tokenizer"):
        rows = tokenizer(["", "a"])
        shape, top = np.shape(rows), np.max(rows)
    if shape != (2, context_length):
        raise ClipinError(
            f"{where}: {name} made rows of shape {list(shape)} from two texts; it "
            f"must be [2, {context_length}]: see {_PAGE}"
        )
    if top >= tokenizer.vocab_size:
        raise ClipinError(
            f"{where}: {name} made the id {top}, but its vocab_size is "
            f"{tokenizer.vocab_size}: ids must be smaller"
        )


def caption_tokenizer(data: ConfigDict) -> Tokenizer:
    """Builds the tokenizer of `config.data`, with its caption options."""
    given = dict(
        context_length=data.context_length,
        long_captions=data.long_captions,
        cleaning=data.caption_cleaning,
        max_words=data.caption_words,
    )
    where = "data.tokenizer.name"
    tokenizer = registry.find(TOKENIZERS, data.tokenizer.get("name", "bpe"), where)
    registry.check_accepts(tokenizer, given, where, _PAGE)
    return make_tokenizer(**given, **data.tokenizer)
