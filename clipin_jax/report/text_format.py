"""Numbers and lists as text, for sentences, tables and labels."""

from __future__ import annotations

import math
from collections.abc import Iterable

NO_NUMBER = "–"  # shown where there is no number
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_number(value: float) -> str:
    """Returns a number short enough for a label: "0.25", "1800", "12k", "2e-5"."""
    size = abs(value)
    if 0 < size < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if size < 1e4:
        return f"{value:.4g}" if size >= 10 else f"{value:.3g}"
    unit, letter = next(u for u in _UNITS if size >= u[0])
    return f"{value / unit:.3g}{letter}"


def format_p_value(p: float, *, equals: bool = False) -> str:
    """Returns a p-value: "0.012" or "< 0.001"; with `equals` "= 0.012"."""
    if math.isnan(p):
        return NO_NUMBER
    if p < 0.001:
        return "< 0.001"
    return ("= " if equals else "") + (f"{p:.3f}" if p < 0.1 else f"{p:.2f}")


def format_duration(seconds: float) -> str:
    """Returns a time: "12 s", "3 min 05 s" or "2 h 07 min"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"


def count_noun(count: int, noun: str) -> str:
    """Returns a count with its noun: "1 seed", "2 seeds"."""
    return f"{count} {noun}" + "s" * (count != 1)


def join_words(words: Iterable[str]) -> str:
    """Returns a list in prose: "a, b and c", or "a, b; and c" if an item has a comma.

    words: at least one.
    """
    *first, last = items = list(words)
    if first and any("," in item for item in items):
        return f"{'; '.join(first)}; and {last}"
    return f"{', '.join(first)} and {last}" if first else last


def quote_phrase(name: str) -> str:
    """Returns a name for prose: in quotes unless it is a single word."""
    return name if name.isalnum() else f"“{name}”"
