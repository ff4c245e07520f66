"""Files by path or URL: local ones, and those of stores (`gs://`, `s3://`, ...).

fsspec reads remote ones, with the library of their store: `pip install
'clipin_jax[remote]'`.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import itertools
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError

_URL = re.compile(r"\w{2,}:/")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_WILD = re.compile(r"[*?\[]")
_OPEN_FILES = 256  # local files that stay open between two reads of a range


def is_remote(path: str) -> bool:
    """Tells whether a path is a URL such as `gs://bucket/name`."""
    return "://" in path


def local_path(path: str | Path) -> Path:
    """Returns a path of this machine, `~` being the home.

    Raises:
      ClipinError: it is a URL, as of a bucket.
    """
    # `Path` makes one slash of two.
    if _URL.match(str(path)):
        raise ClipinError(
            f"{path} is a URL: runs are read and written in folders of this machine; "
            "name one, such as the mount of a bucket"
        )
    return Path(path).expanduser()


def join(folder: str, name: str) -> str:
    """Returns the path of a file inside a folder; `folder` may be a URL or ""."""
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{name}"
    return os.path.join(os.path.expanduser(folder), name)


def parent(path: str) -> str:
    """Returns the folder of a file, by path or URL."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else "")


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


def exists(path: str) -> bool:
    """Tells whether a file exists. Raises ClipinError if a store cannot be reached."""
    if not is_remote(path):
        return os.path.isfile(path)
    with _as_clipin_error(path):
        store, name = _store(path)
        return bool(store.isfile(name))
    return False


def size(path: str) -> int:
    """Returns the size of a file in bytes. Raises OSError."""
    if not is_remote(path):
        return os.path.getsize(path)
    with _as_os_error(path):
        store, name = _store(path)
        return int(store.size(name))


def read(path: str) -> bytes:
    """Returns the content of a file. Raises OSError."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    with _as_os_error(path):
        store, name = _store(path)
        return store.cat_file(name)


def read_range(path: str, start: int, length: int) -> bytes:
    """Returns part of a file, less if the file ends before. Raises OSError.

    Any thread may call it. Local files stay open, so a file that is replaced between
    two calls is not noticed.
    """
    if not is_remote(path):
        file = _open(path)  # keeps it open until the read is done
        return os.pread(file.number, length, start)
    with _as_os_error(path):
        store, name = _store(path)
        return store.cat_file(name, start=start, end=start + length)


class _Open:
    """A local file, open as long as something refers to it."""

    number = -1

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self):
        if self.number >= 0:
            os.close(self.number)


_open = functools.lru_cache(_OPEN_FILES)(_Open)


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
    with _as_clipin_error(pattern):
        store, name = _store(pattern)
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


def _store(url: str) -> tuple[Any, str]:
    # Imported here, since most runs read local files.
    from fsspec.core import url_to_fs

    return url_to_fs(url)


@contextlib.contextmanager
def _as_os_error(url: str) -> Generator[None]:
    """Turns the errors of a store into OSError; each store has its own classes."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _as_clipin_error(url: str) -> Generator[None]:
    """Turns the errors of a store into ClipinError, with what to do."""
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
