"""The byte-pair encoding of CLIP, in plain Python.

A caption is repaired (`ftfy`), freed of HTML entities, lower-cased and split into words
by a pattern; the UTF-8 bytes of each word are merged in the order of the vocabulary.
Radford et al. 2021, "Learning transferable visual models from natural language
supervision", section 2.4.
"""

from __future__ import annotations

import functools
import gzip
import heapq
import html
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import ftfy
import regex

from clipin_jax.data.text.tokenizer import BaseTokenizer

_MERGES = "clip_merges.txt.gz"
_CACHED_WORDS = 1 << 16
_LONGEST_CACHED = 64  # letters of a word that is kept in the cache
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_alphabet() -> dict[int, str]:
    """Returns a printable character for each of the 256 bytes.

    A printable byte is its own character; the others get characters above 255, so that
    the vocabulary file has no spaces or control characters inside its entries.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet.update({byte: chr(256 + n) for n, byte in enumerate(hidden)})
    return alphabet


@functools.cache
def load_merges() -> tuple[tuple[str, str], ...]:
    """Returns the pairs of symbols that are merged, the first ones first."""
    packed = importlib.resources.files("clipin_jax.data.text").joinpath(_MERGES)
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in map(str.split, lines))


class _Vocabulary(NamedTuple):
    """The tables of a vocabulary.

    symbols: by id. ids: of symbols. ranks: of merges, lower ones come first.
    longest: letters of the longest symbol.
    """

    symbols: list[str]
    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    longest: int


@functools.cache
def _load_vocabulary(special_tokens: tuple[str, ...]) -> _Vocabulary:
    """Returns the tables, which tokenizers with the same marks share."""
    merges = load_merges()
    symbols = list(byte_alphabet().values())
    symbols += [symbol + "</w>" for symbol in symbols]
    symbols += [first + second for first, second in merges]
    symbols += special_tokens
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    return _Vocabulary(symbols, ids, ranks, max(map(len, symbols)))


def clean(text: str) -> str:
    """Returns a caption repaired, unescaped and in lower case."""
    # Most captions need no repair and have nothing to unescape.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class BytePairTokenizer(BaseTokenizer):
    """CLIP's tokenizer; V is 49408, and the end mark is the largest id.

    Args:
      context_length: L, the length of a row.
      allow_special: whether the strings `special_tokens` inside a caption become the
        start and end marks, as in the original tokenizer. Off by default, so that no
        caption can end a row.
      special_tokens: the spelling of the start and the end mark.
      pad_with_end: whether the padding is the end mark instead of 0, so that the last
        id of a row is always the end mark.
      long_captions, cleaning, max_words: see `BaseTokenizer`.
    """

    def __init__(
        self,
        context_length: int = 77,
        allow_special: bool = False,
        special_tokens: Sequence[str] = ("<|startoftext|>", "<|endoftext|>"),
        pad_with_end: bool = False,
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
        self._alphabet = byte_alphabet()
        self._vocabulary = _load_vocabulary(tuple(special_tokens))
        self._special = tuple(special_tokens) if allow_special else ()
        self.vocab_size = len(self._vocabulary.symbols)
        self.start, self.end = self.vocab_size - 2, self.vocab_size - 1
        self.pad = self.end if pad_with_end else 0
        marks = "".join(regex.escape(mark) + "|" for mark in self._special)
        self._pattern = regex.compile(marks + _WORDS, regex.IGNORECASE)
        # This many letters fill a row, even if each id has the most letters.
        self._longest_word = context_length * self._vocabulary.longest
        self._word = functools.lru_cache(_CACHED_WORDS)(self._encode_word)

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols by id, spelled in `byte_alphabet`; marks are the last two."""
        return self._vocabulary.symbols

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks, not cleaned and not cut.

        Of a word that fills a row in any case, the rest is left out.
        """
        words = self._pattern.findall(clean(text))
        return [
            number
            for word in words
            for number in (
                self._word(word)
                if len(word) <= _LONGEST_CACHED
                else self._encode_word(word)
            )
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; the end of a word becomes a space.

        Marks and padding are spelled, so cut a row first.
        """
        text = "".join(self._vocabulary.symbols[int(number)] for number in ids)
        letters = {symbol: byte for byte, symbol in self._alphabet.items()}
        data = bytearray(letters[letter] for letter in text)
        return data.decode("utf-8", errors="replace").replace("</w>", " ")

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in self._special:
            return (self._vocabulary.ids[word],)
        word = word[: self._longest_word]
        parts = [self._alphabet[byte] for byte in word.encode("utf-8")]
        parts[-1] += "</w>"
        merged = merge_pairs(parts, self._vocabulary.ranks)
        return tuple(self._vocabulary.ids[part] for part in merged)


def merge_pairs(
    parts: Sequence[str], ranks: Mapping[tuple[str, str], int]
) -> list[str]:
    """Merges pairs of neighbours until no pair has a rank, lowest ranks first.

    Equal pairs merge from left to right. A merged part occurs only in pairs of higher
    ranks, as byte-pair encoding learns them, so that one queue gives the order. It
    takes n log n steps for n parts.

    Args:
      parts: letters of a word.
      ranks: of pairs.
    """
    merged: list[str | None] = list(parts)
    end = len(parts)
    before, behind = list(range(-1, end - 1)), list(range(1, end + 1))
    queue = [
        (ranks[pair], place)
        for place, pair in enumerate(zip(parts, parts[1:], strict=False))
        if pair in ranks
    ]
    heapq.heapify(queue)
    while queue:
        rank, left = heapq.heappop(queue)
        right = behind[left]
        first, second = merged[left], merged[right] if right < end else None
        # One of the two has been merged since.
        if first is None or second is None or ranks.get((first, second)) != rank:
            continue
        merged[left], merged[right] = first + second, None
        behind[left] = behind[right]
        if behind[left] < end:
            before[behind[left]] = left
        for start, stop in ((before[left], left), (left, behind[left])):
            if start < 0 or stop >= end:
                continue
            new_rank = ranks.get((str(merged[start]), str(merged[stop])))
            if new_rank is not None:
                heapq.heappush(queue, (new_rank, start))
    return [part for part in merged if part is not None]
