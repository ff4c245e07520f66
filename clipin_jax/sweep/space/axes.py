"""The axes of a sweep: a key with its values, or with a range of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from clipin_jax.errors import ClipinError, did_you_mean, shorten

_RANGE = re.compile(r"(?P<low>[^:/\s]+?)\.\.(?P<high>[^:/\s]*)(?P<options>(:\w*)*)")
_OPTIONS = ("log", "int")
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
_DIGITS = 6  # significant ones of a number from a range


class Choices(NamedTuple):
    """The values of a key, as overrides write them; `key=a,b,c`."""

    values: tuple[str, ...]

    def at(self, share: float) -> str:
        """Returns the value at a share of the axis, from 0 to below 1."""
        return self.values[int(share * len(self.values))]


class Range(NamedTuple):
    """Numbers from low to high, both included; `key=low..high:log`.

    Attributes:
      low, high: the ends.
      log: whether equal shares of the axis are equal factors.
      integer: whether the numbers are whole.
    """

    low: float
    high: float
    log: bool
    integer: bool

    def at(self, share: float) -> str:
        """Returns the number at a share of the axis, from 0 to below 1."""
        # Each whole number has the same share: the first and the last one too.
        ends = (self.low - 0.5, self.high + 0.5) if self.integer else self[:2]
        if self.log:
            ends = (math.log(ends[0]), math.log(ends[1]))
        value = ends[0] + share * (ends[1] - ends[0])
        return self.text(math.exp(value) if self.log else value)

    def text(self, value: float) -> str:
        """Returns a number of the range as an override writes it."""
        value = min(max(value, self.low), self.high)
        return str(round(value)) if self.integer else repr(_short(value))


Axis = Choices | Range


@dataclass(frozen=True)
class Space:
    """The axes of a sweep by key, and the overrides that all points share.

    Attributes:
      axes: config key -> its values.
      fixed: "KEY=VALUE" of keys that have one value.
    """

    axes: Mapping[str, Axis]
    fixed: tuple[str, ...] = ()

    @property
    def ranges(self) -> list[str]:
        """The keys that have a range."""
        return [key for key, axis in self.axes.items() if isinstance(axis, Range)]


def read_space(items: Iterable[tuple[str, str]]) -> Space:
    """Reads (key, text) pairs; a text with one value is an override of all points.

    Raises:
      ClipinError: a key is given twice, or its text cannot be read.
    """
    axes: dict[str, Axis] = {}
    fixed: dict[str, str] = {}
    for key, text in items:
        if key in axes or key in fixed:
            raise ClipinError(f"{key} is given twice: write all of its values as one")
        if isinstance(axis := read_axis(key, text), str):
            fixed[key] = f"{key}={axis}"
        else:
            axes[key] = axis
    return Space(axes, tuple(fixed.values()))


def read_axis(key: str, text: str) -> Axis | str:
    """Reads `a,b,c` or `low..high[:log][:int]`; returns text if it is one value.

    Raises:
      ClipinError: an end of a range is no number, low is not below high, an option is
        unknown, or a value is empty.
    """
    if matched := _RANGE.fullmatch(text):
        return _read_range(key, text, matched)
    values = split_values(text)
    if not all(values) and len(values) > 1:
        raise ClipinError(f"{key}={shorten(text)}: a value between commas is empty")
    if len(values) == 1:
        return text
    return choices(key, values)


def choices(key: str, values: Sequence[str]) -> Choices:
    """Returns the axis of some values.

    Raises:
      ClipinError: there is none, or one is given twice.
    """
    if not values:
        raise ClipinError(f"{key} has no values: the grid is empty")
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ClipinError(f"{key} has the value {twice} twice: give it once")
    return Choices(tuple(values))


def python_axis(key: str, value: Any) -> Axis | str:
    """Returns the axis of a value in a sweep file: a list, text as typed, one value.

    Raises:
      ClipinError: as `read_axis`, or the list is empty.
    """
    if isinstance(value, str):
        return read_axis(key, value)
    if isinstance(value, list | range):
        return choices(key, [repr(item) for item in value])
    return repr(value)


def split_values(text: str) -> list[str]:
    """Splits at the commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        depth += (letter in _OPENING) - (letter in _CLOSING) if not quote else 0
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _read_range(key: str, text: str, matched: re.Match[str]) -> Range:
    given = f"{key}={text}"
    options = [name for name in matched["options"].split(":")[1:]]
    for name in options:
        if name not in _OPTIONS:
            raise ClipinError(f"{given}: no option {name!r}: {_known(name)}")
    low, high = (_number(given, matched[end]) for end in ("low", "high"))
    if not low < high:
        raise ClipinError(f"{given}: {low:g} is not below {high:g}: write LOW..HIGH")
    if "log" in options and low <= 0:
        raise ClipinError(f"{given}: a range with :log begins above 0")
    if "int" in options and not (low.is_integer() and high.is_integer()):
        raise ClipinError(f"{given}: the ends of a range with :int are whole numbers")
    return Range(low, high, "log" in options, "int" in options)


def _known(name: str) -> str:
    return did_you_mean(name, _OPTIONS)


def _number(given: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ClipinError(
            f"{given}: {text!r} is no number: a range is LOW..HIGH, as 1e-4..1e-2:log; "
            "put a text with two dots in quotes"
        )
    return number


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
