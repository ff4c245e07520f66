"""The files that a pattern matches: `{000..099}`, `{a,b}`, `*`, `?`, `[...]`."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator

from clipin_jax.errors import ClipinError
from clipin_jax.storage.files import exists
from clipin_jax.storage.paths import is_remote
from clipin_jax.storage.store import open_store, reaching

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_WILD = re.compile(r"[*?\[]")


def expand(pattern: str) -> list[str]:
    """Returns the files that match a pattern, sorted by name.

    A file with this very name is meant first. `{000..099}` stands for every number from
    000 to 099, `{a,b}` for either; each of these files must exist. `*`, `?` and `[...]`
    match the files that exist.

    Raises:
      ClipinError: no such file, or a remote store that cannot be reached.
    """
    if is_pattern(pattern) and exists(_expand_user(pattern)):
        return [_expand_user(pattern)]
    paths = []
    for name in map(_expand_user, _expand_braces(pattern)):
        matches = _glob(name) if _WILD.search(name) else [name] * exists(name)
        if not matches:
            origin = "" if name == pattern else f", which {pattern} asks for"
            raise ClipinError(f"no file {name}{origin}")
        paths += matches
    return paths


def is_pattern(path: str) -> bool:
    """Tells whether a path has signs of a pattern, see `expand`."""
    return any(sign.search(path) for sign in (_RANGE, _CHOICE, _WILD))


def _expand_user(path: str) -> str:
    return path if is_remote(path) else os.path.expanduser(path)


def _expand_braces(pattern: str) -> Iterator[str]:
    """Yields the pattern with each `{a,b}` replaced by its parts, then the ranges."""
    choices = [match.split(",") for match in _CHOICE.findall(pattern)]
    text = _CHOICE.sub("\0", pattern).split("\0")
    for parts in itertools.product(*choices):
        joined = itertools.zip_longest(text, parts, fillvalue="")
        yield from _expand_ranges("".join(itertools.chain.from_iterable(joined)))


def _expand_ranges(pattern: str) -> Iterator[str]:
    """Yields the pattern with each `{first..last}` replaced by its numbers."""
    spans = [
        [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
        for first, last in _RANGE.findall(pattern)
    ]
    text = _RANGE.sub("\0", pattern).split("\0")
    for numbers in itertools.product(*spans):
        parts = itertools.zip_longest(text, numbers, fillvalue="")
        yield "".join(itertools.chain.from_iterable(parts))


def _glob(pattern: str) -> list[str]:
    if not is_remote(pattern):
        names = glob.glob(_escape_folders(pattern), recursive=True)
        return sorted(filter(os.path.isfile, names))
    with reaching(pattern):
        store, name = open_store(pattern)
        return sorted(store.unstrip_protocol(each) for each in store.glob(name))
    return []


def _escape_folders(pattern: str) -> str:
    """Returns a pattern in which folders that exist under their very name are plain."""
    parts = pattern.split("/")
    for count in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:count])
        if folder and os.path.isdir(folder):
            return "/".join([glob.escape(folder), *parts[count:]])
    return pattern
