"""Lists folders, local and remote."""

from __future__ import annotations

import errno
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clipin_jax import storage
from clipin_jax.errors import ClipinError, first_few

_log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """Sorted names. Links to folders are folders; broken links are files."""

    folders: list[str]
    files: list[str]


def list_folder(folder: str) -> Listing | None:
    """Returns the content of a folder, by path or URL; None without such a folder.

    Raises:
      ClipinError: a folder that may not be read, or a store that cannot be reached.
    """
    try:
        is_folder = _remote(folder) if storage.is_remote(folder) else _local(folder)
    # ValueError for names that no folder can have: with a zero byte, or not Unicode.
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise ClipinError(
            f"folder {folder} cannot be listed ({error.strerror or error})"
        ) from error
    names = sorted(is_folder)
    return Listing(
        [name for name in names if is_folder[name]],
        [name for name in names if not is_folder[name]],
    )


def walk(folder: str) -> Iterator[str]:
    """Yields the files at any depth inside a folder, relative to it.

    The files of a folder come before those of its sub-folders, each sorted by name.
    Hidden files are left out. Links are followed, except to a folder above them.
    """
    yield from _walk(folder, "", ())


def check_images(
    names: Sequence[str], folder: str, named_in: str, *, lenient: bool = False
) -> None:
    """Checks that files exist; lists each folder once.

    Args:
      names: of the files, relative to the folder.
      folder: the folder of the files.
      named_in: the file that lists them, for messages.
      lenient: warn of files that are missing beside others, as of bad records.

    Raises:
      ClipinError: some are missing, or the folder is.
    """
    if list_folder(folder) is None:
        raise ClipinError(f"image folder {folder} does not exist; set source.images")
    names_by_folder = defaultdict(list)
    for name in names:
        names_by_folder[os.path.dirname(name)].append(name)
    missing = []
    for inside, members in names_by_folder.items():
        listing = list_folder(storage.join(folder, inside) if inside else folder)
        known = set(listing.files) if listing else set()
        missing += [name for name in members if os.path.basename(name) not in known]
    if not missing:
        return
    text = (
        f"{len(missing)} of {len(names)} image files named in {named_in} are not in "
        f"{folder} ({first_few(missing)}); add them, or remove their entries"
    )
    if not lenient or len(missing) == len(names):
        raise ClipinError(text)
    _log.warning("%s", text)


def _local(folder: str) -> dict[str, bool]:
    """Returns whether each name in a folder is a folder."""
    with os.scandir(os.path.expanduser(folder) or ".") as entries:
        return {entry.name: entry.is_dir() for entry in entries}


def _remote(folder: str) -> dict[str, bool]:
    storage.exists(folder)  # raises ClipinError where the store cannot be reached
    from fsspec.core import url_to_fs

    store, path = url_to_fs(folder)
    is_folder = {}
    for entry in store.ls(path, detail=True):
        name = entry["name"].rstrip("/")
        if name != path.rstrip("/"):  # some stores name the folder itself
            is_folder[name.rpartition("/")[2]] = entry["type"] == "directory"
    return is_folder


def _walk(root: str, inside: str, above: tuple[str, ...]) -> Iterator[str]:
    folder = storage.join(root, inside) if inside else root
    real = folder if storage.is_remote(folder) else os.path.realpath(folder)
    listing = list_folder(folder)
    if listing is None or real in above:
        return
    prefix = f"{inside}/" if inside else ""
    yield from (prefix + name for name in listing.files if name[0] != ".")
    for name in listing.folders:
        if name[0] != ".":
            yield from _walk(root, prefix + name, (*above, real))
