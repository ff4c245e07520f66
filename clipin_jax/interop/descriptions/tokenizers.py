"""Compares the tokenizer of a config with that of a model's folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.text import make_tokenizer
from clipin_jax.data.text.tokenizer_file import encode_with_file
from clipin_jax.errors import ClipinError

# Letters, capitals, digits, an accent, a rare word; no punctuation, which some models
# remove from captions before.
TEXTS = (
    "a photo of a cat",
    "Two dogs run across 1923 green hills",
    "straightforwardness in a small café",
)
_LENGTH = 64


def check_tokenizer(config: ConfigDict, path: Path) -> None:
    """Checks that the tokenizer of a config gives a few texts the ids of a file.

    Args:
      config: of ours; `data.tokenizer` counts, not the cleaning of captions.
      path: a tokenizer.json.

    Raises:
      ClipinError: other ids; or the file is damaged.
    """
    tokenizer = make_tokenizer(context_length=_LENGTH, **config.data.tokenizer)
    rows = tokenizer(TEXTS)
    files = encode_with_file(path, TEXTS)
    for text, row, theirs in zip(TEXTS, rows, files, strict=True):
        ours = row[: _length(row, tokenizer.pad, tokenizer.end)].tolist()
        if ours != theirs:
            raise ClipinError(
                f"data.tokenizer gives {text!r} the ids {_some(ours)}, but {path} "
                f"{_some(theirs)}: set data.tokenizer to the tokenizer of these weights"
            )


def _length(row: np.ndarray, pad: int, end: int) -> int:
    """Returns the number of ids without padding, which may be the end mark."""
    length = int(np.max(np.flatnonzero(row != pad), initial=-1)) + 1
    return length + (pad == end)


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return f"[{shown}, ...]" if len(ids) > 8 else f"[{shown}]"
