"""The WordPiece tokenizer of BERT, with the library `tokenizers`.

A caption is cleaned of control characters and split at spaces, at punctuation and
around each Chinese character; each word becomes the longest pieces in the vocabulary,
and all pieces but the first begin with "##". Devlin et al. 2019, "BERT",
arXiv 1810.04805.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import regex

from clipin_jax.data.scenes.text import vocabulary as scenes_vocabulary
from clipin_jax.data.text.tokenizer import BaseTokenizer
from clipin_jax.errors import ClipinError

_PAD, _UNKNOWN, _START, _END, _MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
_MARKS = (_PAD, _UNKNOWN, _START, _END, _MASK)
# Decoding removes these spaces: inside a word, between Chinese characters.
_JOINED = regex.compile(r" ##|(?<=\p{Han}) (?=\p{Han})")


class WordPieceTokenizer(BaseTokenizer):
    """BERT's tokenizer: rows `[CLS] ... [SEP]`, padded with 0.

    The ids of a caption never include marks: brackets are punctuation, so that "[SEP]"
    in a caption is three pieces, and `extra_tokens` are spelled too.

    Args:
      context_length: L, the length of a row.
      vocabulary: a file with one piece per line (`vocab.txt` of a BERT); "" for a small
        one with the words of the embedded scenes, letters, digits and punctuation.
      lowercase: whether capitals and accents are removed, as the vocabularies of
        "uncased" and Chinese models expect.
      extra_tokens: further marks; their ids follow the vocabulary in this order.
      long_captions, cleaning, max_words: see `BaseTokenizer`.

    Attributes:
      pieces: by id, `extra_tokens` too.
      extra_ids: the ids of `extra_tokens`, by name.

    Raises:
      ClipinError: the file cannot be read, is no WordPiece vocabulary or has no mark of
        BERT; or an extra token is in the vocabulary already.
    """

    def __init__(
        self,
        context_length: int = 77,
        vocabulary: str = "",
        lowercase: bool = True,
        extra_tokens: Sequence[str] = (),
        *,
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
        pieces = (
            _read(Path(vocabulary).expanduser()) if vocabulary else _scenes_pieces()
        )
        ids = {piece: number for number, piece in enumerate(pieces)}
        self.start, self.end = ids[_START], ids[_END]
        self.mask_id = ids[_MASK]
        self.pieces = [*pieces, *extra_tokens]
        self.vocab_size = len(self.pieces)
        if isinstance(extra_tokens, str) or len(set(self.pieces)) < self.vocab_size:
            raise ClipinError(
                f"data.tokenizer.extra_tokens is {extra_tokens!r}; it must be a tuple "
                "of different marks that the vocabulary does not have"
            )
        extra = zip(extra_tokens, range(len(pieces), self.vocab_size), strict=True)
        self.extra_ids = dict(extra)
        self._library = _build(ids, lowercase)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks, not cleaned and not cut."""
        if not text.isascii():
            # Replaces unpaired surrogates, which UTF-8 cannot encode.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._library.encode(text).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, with pieces and Chinese characters joined.

        Marks and padding are spelled, so cut a row first.
        """
        return _JOINED.sub("", " ".join(self.pieces[int(number)] for number in ids))


def _build(ids: dict[str, int], lowercase: bool) -> Any:
    """Returns the library's tokenizer without marks, which it would find in texts."""
    # Imported here, since most runs do not need this library.
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    core = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=_UNKNOWN))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core


def _read(file: Path) -> list[str]:
    """Returns the pieces of a vocabulary file; the line of a piece is its id."""
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise ClipinError(
            f"vocabulary {file} cannot be read ({error.strerror}); set "
            "data.tokenizer.vocabulary"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_vocabulary(file, "it is not UTF-8 text") from error
    # Other white space is kept: BERT's Chinese vocabulary has pieces of it.
    pieces = [line.removesuffix("\r") for line in lines]
    if not pieces[-1]:
        pieces.pop()
    missing = [mark for mark in _MARKS if mark not in pieces]
    if missing:
        raise _no_vocabulary(file, f"it lacks {', '.join(missing)}")
    if pieces[0] != _PAD:
        raise _no_vocabulary(file, f"its first line is {pieces[0]!r}, not {_PAD}")
    [(piece, times)] = Counter(pieces).most_common(1)
    if times > 1:
        raise _no_vocabulary(file, f"it has {piece!r} {times} times")
    return pieces


def _no_vocabulary(file: Path, reason: str) -> ClipinError:
    return ClipinError(
        f"{file} is no WordPiece vocabulary: {reason}. data.tokenizer.vocabulary must "
        f"name a text file with one piece per line, {_PAD} first, as BERT's vocab.txt"
    )


def _scenes_pieces() -> list[str]:
    """Returns the words of the scenes, and pieces for any other word in ASCII."""
    parts = [*string.ascii_lowercase, *string.digits]
    words = [word for word in scenes_vocabulary() if word not in parts]
    return [*_MARKS, *words, *parts, *(f"##{p}" for p in parts), *string.punctuation]
