"""Paths of this machine and URLs of stores, as text; nothing is opened."""

from __future__ import annotations

import os
import re
from pathlib import Path

from clipin_jax.errors import ClipinError

_REMOTE = re.compile(r"[\w+.:-]{2,}://")  # also chains such as simplecache::gs://
_URL = re.compile(r"(\w{2,}):/+")


def is_remote(path: str) -> bool:
    """Tells whether a path is a URL such as `gs://bucket/name`."""
    return bool(_REMOTE.match(path))


def full_path(path: str | Path) -> str:
    """Returns a path with `~` as the home, or a URL; `Path` took a slash from it."""
    if url := _URL.match(str(path)):
        return f"{url[1]}://{str(path)[url.end() :]}"
    return os.path.expanduser(path)


def absolute(path: str | Path) -> str:
    """Returns the URL, or the path without links, by which all name the same file."""
    full = full_path(path)
    return full if is_remote(full) else os.path.realpath(full)


def local_path(path: str | Path) -> Path:
    """Returns a path of this machine, `~` being the home.

    Raises:
      ClipinError: it is a URL, as of a bucket.
    """
    if is_remote(full := full_path(path)):
        raise ClipinError(
            f"{full} is a URL: name a folder of this machine, such as the mount of a "
            "bucket"
        )
    return Path(full)


def join(folder: str, name: str) -> str:
    """Returns the path of a file inside a folder; `folder` may be a URL or ""."""
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{name}"
    return os.path.join(os.path.expanduser(folder), name)


def parent(path: str) -> str:
    """Returns the folder of a file, by path or URL."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else "")
