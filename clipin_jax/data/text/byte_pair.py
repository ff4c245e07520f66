"""The byte-pair encoding of CLIP, in plain Python.

A caption is repaired (`ftfy`), freed of HTML entities, lower-cased and split into words
by a pattern; the UTF-8 bytes of each word are merged in the order of the vocabulary.
Radford et al. 2021, "Learning transferable visual models from natural language
supervision", section 2.4.
"""

from __future__ import annotations

import functools
import gzip
import html
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import ftfy
import regex

from clipin_jax.data.text.tokenizer import BaseTokenizer

_MERGES = "clip_merges.txt.gz"
_CACHED_WORDS = 1 << 16
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
def _load_merges() -> tuple[tuple[str, str], ...]:
    packed = importlib.resources.files("clipin_jax.data.text").joinpath(_MERGES)
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in map(str.split, lines))


class _Vocabulary(NamedTuple):
    """symbols: by id. ids: of symbols. ranks: of merges, lower ones come first."""

    symbols: list[str]
    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]


@functools.cache
def _load_vocabulary(special_tokens: tuple[str, ...]) -> _Vocabulary:
    """Returns the tables, which tokenizers with the same marks share."""
    merges = _load_merges()
    symbols = list(byte_alphabet().values())
    symbols += [symbol + "</w>" for symbol in symbols]
    symbols += [first + second for first, second in merges]
    symbols += special_tokens
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    return _Vocabulary(symbols, ids, {pair: rank for rank, pair in enumerate(merges)})


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
        self._word = functools.lru_cache(_CACHED_WORDS)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one caption, without marks, not cleaned and not cut."""
        words = self._pattern.findall(clean(text))
        return [number for word in words for number in self._word(word)]

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
        parts = [self._alphabet[byte] for byte in word.encode("utf-8")]
        parts[-1] += "</w>"
        ranks = self._vocabulary.ranks
        while len(parts) > 1:
            pairs = zip(parts, parts[1:], strict=False)
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            parts = _merge(parts, best)
        return tuple(self._vocabulary.ids[part] for part in parts)


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Joins every occurrence of a pair, from left to right."""
    merged, place = [], 0
    while place < len(parts):
        if tuple(parts[place : place + 2]) == pair:
            merged.append(parts[place] + parts[place + 1])
            place += 2
        else:
            merged.append(parts[place])
            place += 1
    return merged
