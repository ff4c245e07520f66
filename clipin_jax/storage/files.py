"""Reads and writes single files, by path or URL."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from pathlib import Path

from clipin_jax.errors import ClipinError
from clipin_jax.storage.paths import full_path, is_remote
from clipin_jax.storage.store import as_os_error, open_store, reaching

_OPEN_FILES = 256  # local files that stay open between two reads of a range


def exists(path: str) -> bool:
    """Tells whether a file exists. Raises ClipinError if a store cannot be reached."""
    if not is_remote(path):
        return os.path.isfile(path)
    with reaching(path):
        store, name = open_store(path)
        return bool(store.isfile(name))
    return False


def size(path: str) -> int:
    """Returns the size of a file in bytes. Raises OSError."""
    if not is_remote(path):
        return os.path.getsize(path)
    with as_os_error(path):
        store, name = open_store(path)
        return int(store.size(name))


def read(path: str) -> bytes:
    """Returns the content of a file. Raises OSError."""
    if not is_remote(path):
        with open(_open_regular(path), "rb") as file:
            return file.read()
    with as_os_error(path):
        store, name = open_store(path)
        return store.cat_file(name)


def read_range(path: str, start: int, length: int) -> bytes:
    """Returns part of a file, less if the file ends before. Raises OSError.

    Any thread may call it. Local files stay open, so a file that is replaced between
    two calls is not noticed.
    """
    if not is_remote(path):
        file = _open(path)  # keeps it open until the read is done
        return os.pread(file.number, length, start)
    with as_os_error(path):
        store, name = open_store(path)
        return store.cat_file(name, start=start, end=start + length)


def _open_regular(path: str) -> int:
    """Opens a local file, and returns its descriptor.

    Raises:
      OSError: it cannot be opened, also for its name; or it is a pipe or a device,
        whose content may never end.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for a writer.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte, or half of a character
        raise OSError(errno.EINVAL, "No valid file name") from error
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return number
    os.close(number)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.ENOTSUP, "Not a regular file", path)


class _Open:
    """A local file, open as long as something refers to it."""

    number = -1

    def __init__(self, path: str):
        self.number = _open_regular(path)

    def __del__(self):
        if self.number >= 0:
            os.close(self.number)


_open = functools.lru_cache(_OPEN_FILES)(_Open)


def make_folder(path: str) -> bool:
    """Makes a folder and those above it; returns whether it was not there.

    A store needs none. Raises OSError.
    """
    if is_remote(path) or os.path.isdir(path):
        return False
    os.makedirs(path)
    return True


def write(path: str, content: bytes) -> None:
    """Writes a file, and its folder if need be. Raises OSError.

    A reader sees the old content or the new one, also if the disk gets full.
    """
    if is_remote(path):
        with as_os_error(path):
            store, name = open_store(path)
            store.pipe_file(name, content)
        return
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_output(path: str | Path, content: str | bytes) -> Path:
    """Writes a file that the user asked for, by path or URL.

    Returns:
      Its path; `full_path` gives that of a URL.

    Raises:
      ClipinError: it cannot be written.
    """
    full = full_path(path)
    if isinstance(content, str):
        # The name of a file, which a text may show, may be no Unicode.
        content = content.encode(errors="backslashreplace")
    try:
        write(full, content)
    except OSError as error:
        raise ClipinError(f"cannot write {full}: {error.strerror or error}") from error
    return Path(full)


def create(path: str, content: bytes) -> None:
    """Writes a file that does not exist; of two processes that try, one succeeds.

    Raises:
      FileExistsError: it exists.
      OSError: it cannot be written.
    """
    if is_remote(path):
        with as_os_error(path):
            store, name = open_store(path)
            store.invalidate_cache()
            if store.exists(name):  # some stores take no condition
                raise FileExistsError(path)
            store.pipe_file(name, content, mode="create")
        return
    with open(path, "xb", buffering=0) as file:
        try:
            file.write(content)
        except OSError:  # a full disk must not leave an empty file
            os.remove(path)
            raise


def remove(path: str) -> None:
    """Removes a file. Raises OSError."""
    if not is_remote(path):
        return os.remove(path)
    with as_os_error(path):
        store, name = open_store(path)
        store.rm_file(name)
