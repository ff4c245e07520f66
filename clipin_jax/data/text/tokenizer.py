"""The interface of a tokenizer, and what the tokenizers of this package share."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from clipin_jax.data.text.caption_cleaning import check_cleaning, clean_caption
from clipin_jax.errors import ClipinError, check_choice

_CACHED_CAPTIONS = 1 << 14
_LONGEST_CACHED = 1 << 12  # letters of a caption that is kept in the cache
_LONGEST_CAPTION = 1 << 16  # letters that are encoded, in rows of up to 1024 ids
_LETTERS_PER_ID = 64  # the same for longer rows
_SHOWN = 60  # letters of a caption in a message


class Tokenizer(Protocol):
    """Turns captions into rows of token ids, and ids into text.

    One of another package derives from `BaseTokenizer`, or has these members and takes
    the arguments `context_length`, `long_captions`, `cleaning` and `max_words`. It is
    pickled and sent to worker processes.

    Attributes:
      vocab_size: V; ids are smaller.
      context_length: L, the length of a row.
      start, end: ids of the two marks around a caption.
      pad: id of the padding.
    """

    vocab_size: int
    context_length: int
    start: int
    end: int
    pad: int

    @property
    def mask_id(self) -> int | None:
        """Id of a masked token; None where the vocabulary has none."""
        ...

    @property
    def never_masked(self) -> tuple[int, ...]:
        """Ids that are no part of a caption, and so are never masked."""
        ...

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Returns rows of ids. texts: B captions -> [B, L] int32."""
        ...

    def is_cut(self, text: str) -> bool:
        """Whether the row of a caption lacks its end."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks, not cleaned and not cut."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Marks and padding are spelled: cut a row first."""
        ...


class BaseTokenizer(ABC):
    """A `Tokenizer` with rows `start, ids of the caption, end, padding`.

    A subclass sets `vocab_size`, `start` and `end`, and has `encode` and `decode`.

    Args:
      context_length: L. A longer caption is cut and its last id is the end mark.
      long_captions: "cut", or "error" to refuse a caption that would be cut.
      cleaning: the rule by which captions are cleaned first, see `caption_cleaning`.
      max_words: how many words of a caption are kept; 0 for all.
    """

    vocab_size: int
    start: int
    end: int
    pad: int = 0
    mask_id: int | None = None
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the arguments of `__init__` for pickling."""
        self = super().__new__(cls)
        self._arguments = args, kwargs
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The caches cannot be pickled; a worker process builds its own tokenizer.
        args, kwargs = self._arguments
        return functools.partial(type(self), *args, **kwargs), ()

    def __init__(
        self,
        context_length: int,
        *,
        long_captions: str = "cut",
        cleaning: str = "",
        max_words: int = 0,
    ):
        check_choice("data.long_captions", long_captions, ("cut", "error"))
        check_cleaning(cleaning, max_words)
        if context_length < 2:
            raise ClipinError(
                f"tokenizer: context_length is {context_length}; a row needs at least "
                "2 places, for the start and the end mark"
            )
        self.context_length = context_length
        self._refuse_long = long_captions == "error"
        self._cleaning = cleaning, max_words
        self._longest = max(_LONGEST_CAPTION, _LETTERS_PER_ID * context_length)
        self._cached_row = functools.lru_cache(_CACHED_CAPTIONS)(self._clean_row)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Returns rows of ids. texts: B captions -> [B, L] int32.

        Raises:
          ClipinError: a caption is too long and `long_captions` is "error".
        """
        if isinstance(texts, str):
            raise TypeError("the tokenizer takes a sequence of captions, not one")
        rows = np.full((len(texts), self.context_length), self.pad, np.int32)
        for row, text in zip(rows, texts, strict=True):
            ids, length = self._row(text)
            if self._refuse_long and length > self.context_length:
                raise ClipinError(
                    f"a caption has {length} tokens with its marks, more than "
                    f"data.context_length {self.context_length}: {text[:_SHOWN]!r}. "
                    "Raise data.context_length, or cut with data.long_captions=cut"
                )
            row[: len(ids)] = ids
        return rows

    def is_cut(self, text: str) -> bool:
        """Whether the row of a caption lacks its end."""
        return self._row(text)[1] > self.context_length

    @property
    def never_masked(self) -> tuple[int, ...]:
        """Ids that are no part of a caption, and so are never masked."""
        return self.pad, self.start

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks, not cleaned and not cut."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Marks and padding are spelled: cut a row first."""

    def _row(self, text: str) -> tuple[tuple[int, ...], int]:
        """Returns the ids of a row without padding, and their number before the cut."""
        if len(text) <= _LONGEST_CACHED:
            return self._cached_row(text)
        # A row has room for the first ids only.
        return self._clean_row(text[: self._longest])

    def _clean_row(self, text: str) -> tuple[tuple[int, ...], int]:
        return self._encode_row(clean_caption(text, *self._cleaning))

    def _encode_row(self, text: str) -> tuple[tuple[int, ...], int]:
        """Returns the ids of a row without padding, and their number before the cut."""
        ids = self.encode(text)
        kept = ids[: self.context_length - 2]
        return (self.start, *kept, self.end), len(ids) + 2


def decode_row(row: np.ndarray, tokenizer: Tokenizer) -> str:
    """Returns the text of a row of ids, [L] int32, without marks and padding."""
    begin = int(row[0] == tokenizer.start)  # some vocabularies have no start mark
    length = int(np.argmax(row[begin:] == tokenizer.end))
    return tokenizer.decode(row[begin : begin + length]).strip()
