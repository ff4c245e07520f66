"""Stores such as `gs://` and `s3://`: their files, and their errors in one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError, RetryableError

# Errors that a later try gets again: a wrong name, scheme or permission.
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, ValueError)


class Store:
    """The files below a URL, by their names relative to it.

    Every method raises ClipinError if the store cannot be reached.
    """

    def __init__(self, url: str):
        """Opens the store; reads nothing."""
        self._url = url
        with reaching(url):
            self._store, root = open_store(url)
            self._root = root.rstrip("/")

    def names(self) -> set[str]:
        """Returns the names of all files."""
        with reaching(self._url), contextlib.suppress(FileNotFoundError):
            self._store.invalidate_cache()  # other processes write there, too
            paths = self._store.find(self._root)
            return {path.removeprefix(self._root).lstrip("/") for path in paths}
        return set()

    def get(self, paths: Mapping[str, Path]) -> None:
        """Copies files, by name, to paths of this machine."""
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        if paths:
            with reaching(self._url):
                self._store.get(self._full(paths), list(map(str, paths.values())))

    def put(self, paths: Mapping[str, Path]) -> None:
        """Writes files, by name, from paths of this machine."""
        if paths:
            with reaching(self._url):
                self._store.put(list(map(str, paths.values())), self._full(paths))

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Writes files, by name."""
        if contents:
            full = dict(zip(self._full(contents), contents.values(), strict=True))
            with reaching(self._url):
                self._store.pipe(full)

    def remove(self, name: str) -> None:
        """Removes a file, if there is one."""
        with reaching(self._url), contextlib.suppress(FileNotFoundError):
            self._store.rm_file(f"{self._root}/{name}")

    def remove_folder(self, name: str) -> None:
        """Removes all files of a folder."""
        with reaching(self._url), contextlib.suppress(FileNotFoundError):
            self._store.rm(f"{self._root}/{name}", recursive=True)

    def _full(self, names: Iterable[str]) -> list[str]:
        return [f"{self._root}/{name}" for name in names]


def open_store(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, as fsspec has it, and the path there."""
    # Imported here, since most runs read local files.
    from fsspec.core import url_to_fs

    return url_to_fs(url)


@contextlib.contextmanager
def as_os_error(url: str) -> Generator[None]:
    """Turns the errors of a store into OSError; each store has its own classes."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, PermissionError):
        raise
    except ImportError as error:
        raise _missing_library(url, error) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        number = errno.EINVAL if isinstance(error, _LASTING) else errno.EIO
        raise OSError(number, f"{url}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def reaching(url: str) -> Generator[None]:
    """Turns the errors of a store into ClipinError, with what to do."""
    try:
        yield
    except ImportError as error:
        raise _missing_library(url, error) from error
    # Each store has errors of its own, for credentials, names, the network.
    except Exception as error:
        cls = ClipinError if isinstance(error, _LASTING) else RetryableError
        raise cls(
            f"{url} cannot be reached: {type(error).__name__}: {error}"
        ) from error


def _missing_library(url: str, error: ImportError) -> ClipinError:
    return ClipinError(
        f"{url} needs a library that is not installed ({error}): "
        "pip install 'clipin_jax[remote]'"
    )
