"""Reads a tokenizer.json, the file of the library `tokenizers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipin_jax.errors import ClipinError, first_line


def encode_with_file(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids that a tokenizer.json gives texts: with marks, without padding.

    Raises:
      ClipinError: the file is damaged.
    """
    import tokenizers  # imported here, since most runs do not need it

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    # The library raises this class alone.
    except Exception as error:
        raise ClipinError(f"{path} is no tokenizer: {first_line(error)}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
