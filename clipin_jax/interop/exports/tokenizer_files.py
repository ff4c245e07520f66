"""The files from which other libraries build the tokenizer of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ml_collections import ConfigDict

from clipin_jax.data.text.byte_pair import BytePairTokenizer, load_merges
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.data.text.word_piece import WordPieceTokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.folder import (
    WriteFile,
    bytes_file,
    json_file,
    text_file,
)
from clipin_jax.interop.exports.requirements import config_value
from clipin_jax.interop.exports.trained_model import TrainedModel

SENTENCE_PIECES = "spiece.model"
_WITHOUT = "add --no-tokenizer to leave its files out"
# What a caption is changed by before it is split, which no tokenizer file says.
_CLEANING = {"data.caption_cleaning": "", "data.caption_words": 0}


def tokenizer_files(model: TrainedModel, inputs: Sequence[str]) -> dict[str, WriteFile]:
    """Returns the files of the tokenizer of a run; none if the model is without.

    Args:
      model: whose config names the tokenizer.
      inputs: what the other library's model takes, of `input_ids` and `attention_mask`.

    Raises:
      ClipinError: a tokenizer or an option that these files cannot say.
    """
    config = model.config
    if not model.with_tokenizer:
        return {}
    check_captions(model)
    name = config.data.tokenizer.get("name", "bpe")
    if name not in _WRITERS:
        raise ClipinError(
            f"tokenizer files are not written for data.tokenizer.name {name!r}, only "
            f"for {', '.join(_WRITERS)}: {_WITHOUT}"
        )
    shared = dict(
        model_max_length=config.data.context_length, model_input_names=list(inputs)
    )
    return _WRITERS[name](config.data.tokenizer, model.tokenizer, shared)


def check_captions(model: TrainedModel) -> None:
    """Checks that captions go to the tokenizer as they are, unless it is left out.

    Raises:
      ClipinError: the run changes them before.
    """
    for key, usual in _CLEANING.items():
        value = config_value(model.config, key)
        if model.with_tokenizer and value != usual:
            raise ClipinError(
                f"no tokenizer of others knows {key} {value!r}: {_WITHOUT}"
            )


def _byte_pair(
    _: ConfigDict, tokenizer: Tokenizer, shared: Mapping[str, Any]
) -> dict[str, WriteFile]:
    """Returns the files of transformers' `CLIPTokenizer`."""
    symbols = cast(BytePairTokenizer, tokenizer).symbols
    marks = dict(
        bos_token=symbols[tokenizer.start],
        eos_token=symbols[tokenizer.end],
        unk_token=symbols[tokenizer.end],
        # Of padding with 0, which is a letter, nothing depends on the id.
        pad_token=symbols[tokenizer.end],
    )
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    lines = ["#version: 0.2", *map(" ".join, load_merges())]
    config = dict(tokenizer_class="CLIPTokenizer", do_lower_case=True, errors="replace")
    return {
        "vocab.json": text_file(json.dumps(ids, ensure_ascii=False)),
        "merges.txt": text_file("\n".join(lines) + "\n"),
        "special_tokens_map.json": json_file(marks),
        "tokenizer_config.json": json_file(config | marks | dict(shared)),
    }


def _word_piece(
    spec: ConfigDict, tokenizer: Tokenizer, shared: Mapping[str, Any]
) -> dict[str, WriteFile]:
    """Returns the files of transformers' `BertTokenizer`."""
    pieces = cast(WordPieceTokenizer, tokenizer).pieces
    config = dict(
        tokenizer_class="BertTokenizer", do_lower_case=spec.get("lowercase", True)
    )
    return {
        "vocab.txt": text_file("\n".join(pieces) + "\n"),
        "tokenizer_config.json": json_file(config | dict(shared)),
    }


def _sentence_piece(
    spec: ConfigDict, _: Tokenizer, __: Mapping[str, Any]
) -> dict[str, WriteFile]:
    """Returns the model file; no class of transformers splits just as ours."""
    content = Path(spec.model).expanduser().read_bytes()
    return {SENTENCE_PIECES: bytes_file(content)}


_WRITERS: dict[str, Callable[..., dict[str, WriteFile]]] = {
    "bpe": _byte_pair,
    "wordpiece": _word_piece,
    "sentencepiece": _sentence_piece,
}
