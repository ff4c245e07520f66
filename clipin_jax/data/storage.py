"""Files by path or URL: local ones, and what fsspec knows (`gs://`, `s3://`, ...).

Remote ones need the library of their store: `pip install 'clipin_jax[remote]'`.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import itertools
import os
import re
from collections.abc import Generator, Iterator
from typing import Any

from clipin_jax.errors import ClipinError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[]")
_OPEN_FILES = 256  # local files that stay open between two reads of a range


def is_remote(path: str) -> bool:
    """Whether a path is a URL such as `gs://bucket/name`."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path of a file inside a folder; `folder` may be a URL or ""."""
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{name}"
    return os.path.join(os.path.expanduser(folder), name)


def expand(pattern: str) -> list[str]:
    """The files that a pattern stands for, in the order of their names.

    `{000..099}` is every number from one to the other, written as wide; each of those
    must exist. `*`, `?` and `[...]` are whatever exists.

    Raises:
      ClipinError: no such file, or a remote store that cannot be reached.
    """
    named = [_home(each) for each in _ranges(pattern)]
    found = []
    for name in named:
        there = _glob(name) if _WILD.search(name) else [name] * exists(name)
        if not there:
            raise ClipinError(f"no file {name}" + _of_pattern(name, pattern))
        found += there
    return found


def exists(path: str) -> bool:
    """Whether there is such a file. Raises ClipinError for a store out of reach."""
    if not is_remote(path):
        return os.path.isfile(path)
    with _explained(path):
        store, name = _store(path)
        return bool(store.isfile(name))
    return False


def size(path: str) -> int:
    """Bytes of a file. Raises OSError."""
    if not is_remote(path):
        return os.path.getsize(path)
    with _as_os_error(path):
        store, name = _store(path)
        return int(store.size(name))


def read(path: str) -> bytes:
    """All of a file. Raises OSError."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    with _as_os_error(path):
        store, name = _store(path)
        return store.cat_file(name)


def read_range(path: str, start: int, length: int) -> bytes:
    """A part of a file, from any thread; shorter where the file ends. Raises OSError.

    Local files stay open, so one that is replaced while it is read is not noticed.
    """
    if not is_remote(path):
        file = _open(path)  # held until the read is over
        return os.pread(file.number, length, start)
    with _as_os_error(path):
        store, name = _store(path)
        return store.cat_file(name, start=start, end=start + length)


class _Open:
    """A local file, open until nobody holds it."""

    number = -1

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self):
        if self.number >= 0:
            os.close(self.number)


_open = functools.lru_cache(_OPEN_FILES)(_Open)


def _home(path: str) -> str:
    return path if is_remote(path) else os.path.expanduser(path)


def _ranges(pattern: str) -> Iterator[str]:
    """The pattern with each `{first..last}` replaced by its numbers."""
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
        return sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    with _explained(pattern):
        store, name = _store(pattern)
        return sorted(store.unstrip_protocol(each) for each in store.glob(name))
    return []


def _of_pattern(name: str, pattern: str) -> str:
    return "" if name == pattern else f", which {pattern} asks for"


def _store(url: str) -> tuple[Any, str]:
    # Not at the top: most runs read local files.
    from fsspec.core import url_to_fs

    return url_to_fs(url)


@contextlib.contextmanager
def _as_os_error(url: str) -> Generator[None]:
    """Each store has errors of its own; whoever reads from one knows OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _explained(url: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ClipinError(
            f"{url} needs a library that is not installed ({error}): "
            "pip install 'clipin_jax[remote]'"
        ) from error
    # Each store has errors of its own, for credentials, names, the network.
    except Exception as error:
        raise ClipinError(
            f"{url} cannot be reached: {type(error).__name__}: {error}"
        ) from error
