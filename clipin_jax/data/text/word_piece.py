"""Captions to token ids: the WordPiece of BERT, by the library `tokenizers`.

A caption is cleaned of control characters, parted at spaces, at punctuation and around
each Chinese character, and each word is written as the longest pieces that the
vocabulary knows; all pieces but the first begin with "##". Devlin et al. 2019, "BERT",
arXiv 1810.04805.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import regex

from clipin_jax.data.scenes import text as scenes_text
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError

_PAD, _UNKNOWN, _START, _END, _MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
_MARKS = (_PAD, _UNKNOWN, _START, _END, _MASK)
# Where decoding puts no space: before the rest of a word, between Chinese characters.
_JOINED = regex.compile(r" ##|(?<=\p{Han}) (?=\p{Han})")


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer: rows `[CLS] ... [SEP]`, padded with 0.

    A caption can only become ids of words: brackets are punctuation, so that "[SEP]"
    in a caption is three pieces, and `extra_tokens` are unknown to it.

    Args:
      context_length: L, the length of a row.
      vocabulary: a file with one piece a line (`vocab.txt` of a BERT); "" for a small
        one of the words of the embedded scenes, letters, digits and punctuation.
      lowercase: whether captions lose capitals and accents, as the vocabularies of
        "uncased" and Chinese models expect.
      extra_tokens: marks with ids of their own behind the vocabulary, in this order.
      captions: what else `Tokenizer` takes.

    Attributes:
      extra_ids: the ids of `extra_tokens`, by name.

    Raises:
      ClipinError: the file cannot be read, is no WordPiece vocabulary or lacks a mark
        of BERT; an extra token that the vocabulary has already.
    """

    def __init__(
        self,
        context_length: int = 77,
        vocabulary: str = "",
        lowercase: bool = True,
        extra_tokens: Sequence[str] = (),
        **captions: Any,
    ):
        super().__init__(context_length, **captions)
        self._arguments |= dict(
            vocabulary=vocabulary, lowercase=lowercase, extra_tokens=tuple(extra_tokens)
        )
        pieces = _read(Path(vocabulary).expanduser()) if vocabulary else _of_scenes()
        ids = {piece: number for number, piece in enumerate(pieces)}
        self.start, self.end = ids[_START], ids[_END]
        self.mask_id = ids[_MASK]
        self._pieces = [*pieces, *extra_tokens]
        self.vocab_size = len(self._pieces)
        if isinstance(extra_tokens, str) or len(set(self._pieces)) < self.vocab_size:
            raise ClipinError(
                f"data.tokenizer.extra_tokens is {extra_tokens!r}; it must be a tuple "
                "of different marks that the vocabulary does not have"
            )
        extra = zip(extra_tokens, range(len(pieces), self.vocab_size), strict=True)
        self.extra_ids = dict(extra)
        self._library = _build(ids, lowercase)

    def encode(self, text: str) -> list[int]:
        """The ids of one caption, without marks, not cleaned and not cut."""
        if not text.isascii():
            # Halves of characters that belong to no pair, which UTF-8 cannot write.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._library.encode(text).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: pieces joined to words, Chinese characters to each other.

        Marks and padding are written as they are spelled, so cut a row first.
        """
        return _JOINED.sub("", " ".join(self._pieces[int(number)] for number in ids))


def _build(ids: dict[str, int], lowercase: bool) -> Any:
    """The library's tokenizer; it is told of no mark, so it looks for none in text."""
    # Not at the top: most runs do without this library.
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    core = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=_UNKNOWN))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core


def _read(file: Path) -> list[str]:
    """The pieces of a vocabulary file; their line is their id."""
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise ClipinError(
            f"vocabulary {file} cannot be read ({error.strerror}); set "
            "data.tokenizer.vocabulary"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_vocabulary(file, "it is not UTF-8 text") from error
    # No other white space is taken away: BERT's Chinese vocabulary has pieces of it.
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
        f"name a text file with one piece a line, {_PAD} first, as BERT's vocab.txt"
    )


def _of_scenes() -> list[str]:
    """A vocabulary that knows the scenes' words and can spell any other in ASCII."""
    parts = [*string.ascii_lowercase, *string.digits]
    words = [word for word in scenes_text.vocabulary() if word not in parts]
    return [*_MARKS, *words, *parts, *(f"##{p}" for p in parts), *string.punctuation]
