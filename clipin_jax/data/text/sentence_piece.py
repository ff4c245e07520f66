"""The SentencePiece tokenizer, with the library of that name.

A model file has the pieces and the rules of splitting; spaces are parts of pieces.
Kudo and Richardson 2018, "SentencePiece", arXiv 1808.06226.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipin_jax.data.text.tokenizer import BaseTokenizer
from clipin_jax.errors import ClipinError


class SentencePieceTokenizer(BaseTokenizer):
    """A trained SentencePiece model: rows `ids of the caption, end, end, ...`.

    There is no start mark. The padding is the end mark, so that the last id of a row is
    always the end mark. Pool there (`model.text.pool="last"`): that id is not the
    largest. Source: google-research/big_vision, `pp/ops_text.py`,
    `eos="sticky"`.

    Args:
      context_length: L, the length of a row.
      model: a trained model file, such as `sentencepiece.model`.
      lowercase: whether captions are lower-cased first.
      long_captions, cleaning, max_words: see `BaseTokenizer`.

    Raises:
      ClipinError: the file cannot be read, is no model, or has no end mark.
    """

    def __init__(
        self,
        context_length: int = 64,
        *,
        model: str,
        lowercase: bool = True,
        long_captions: str = "cut",
        cleaning: str = "",
        max_words: int = 0,
    ):
        super().__init__(
            context_length,
            long_captions=long_captions,
            cleaning=cleaning,
            max_words=max_words,
        )
        self._lowercase = lowercase
        self._library = _load(Path(model).expanduser())
        self.vocab_size = self._library.vocab_size()
        self.end = self.pad = self._library.eos_id()
        self.start = self.end  # there is no start mark; `never_masked` has this id

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks and not cut."""
        if not text.isascii():
            # Replaces unpaired surrogates, which UTF-8 cannot encode.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._library.encode(text.lower() if self._lowercase else text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; marks have no text."""
        return self._library.decode([int(number) for number in ids])

    def _encode_row(self, text: str) -> tuple[tuple[int, ...], int]:
        ids = self.encode(text)
        return (*ids[: self.context_length - 1], self.end), len(ids) + 1


def _load(file: Path) -> Any:
    # Imported here, since most runs do not need this library.
    from sentencepiece import SentencePieceProcessor

    library: Any = SentencePieceProcessor()
    try:
        library.load_from_serialized_proto(file.read_bytes())
    except OSError as error:
        raise ClipinError(
            f"SentencePiece model {file} cannot be read ({error.strerror}); set "
            "data.tokenizer.model"
        ) from error
    except RuntimeError as error:
        raise _no_model(file, "the library cannot parse it") from error
    if library.eos_id() < 0:
        raise _no_model(file, "it has no end mark")
    return library


def _no_model(file: Path, reason: str) -> ClipinError:
    return ClipinError(
        f"{file} is no SentencePiece model that can be used: {reason}. "
        "data.tokenizer.model must name a trained model with an end mark, as the "
        "library's trainer writes it"
    )
