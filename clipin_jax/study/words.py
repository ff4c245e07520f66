"""Numbers and lists as words, for sentences and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable


def p_text(p: float, equals: bool = False) -> str:
    """A p-value: "0.012" or "< 0.001"; with `equals` "= 0.012"."""
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "< 0.001"
    return ("= " if equals else "") + (f"{p:.3f}" if p < 0.1 else f"{p:.2f}")


def listed(words: Iterable[str]) -> str:
    """Words as a list in prose: "a, b and c", or "a, b; and c" where some have commas.

    There has to be one word at least.
    """
    *first, last = all_words = list(words)
    if first and any("," in word for word in all_words):
        return f"{'; '.join(first)}; and {last}"
    return f"{', '.join(first)} and {last}" if first else last


def plural(count: int, word: str) -> str:
    """A count and its noun: "1 seed", "2 seeds"."""
    return f"{count} {word}" + "s" * (count != 1)


def named(method: str) -> str:
    """A method's name in prose: in quotes where it may be taken for part of it."""
    return method if method.isalnum() else f"“{method}”"
