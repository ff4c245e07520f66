"""What lies in folders, local and remote alike."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clipin_jax.data import storage
from clipin_jax.errors import ClipinError, first_few


class Listing(NamedTuple):
    """Names in a folder, sorted. Links to folders are folders; dead links are files."""

    folders: list[str]
    files: list[str]


def list_folder(folder: str) -> Listing | None:
    """What lies in a folder, by path or URL; None where there is no such folder.

    Raises:
      ClipinError: a folder that may not be read, or a store out of reach.
    """
    try:
        kinds = _remote(folder) if storage.is_remote(folder) else _local(folder)
    # Also names that no folder can have, with a zero in them or no Unicode.
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise ClipinError(
            f"folder {folder} cannot be listed ({error.strerror or error})"
        ) from error
    names = sorted(kinds)
    return Listing(
        [name for name in names if kinds[name]],
        [name for name in names if not kinds[name]],
    )


def walk(folder: str) -> Iterator[str]:
    """The files at any depth inside a folder, relative to it.

    Those of a folder come before those of its sub-folders, each by name. Hidden ones
    are left out. Links are followed, but none back to a folder on the way to it.
    """
    yield from _walk(folder, "", ())


def check_images(names: Sequence[str], folder: str, named_in: str) -> None:
    """Demands that files exist, listing each folder once, which stays fast.

    Args:
      names: of the files, relative to the folder.
      folder: where they should be.
      named_in: the file that asks for them.

    Raises:
      ClipinError: some are missing, or the folder is.
    """
    if list_folder(folder) is None:
        raise ClipinError(f"image folder {folder} does not exist; set source.images")
    wanted = defaultdict(list)
    for name in names:
        wanted[os.path.dirname(name)].append(name)
    missing = []
    for inside, members in wanted.items():
        there = list_folder(storage.join(folder, inside) if inside else folder)
        known = set(there.files) if there else set()
        missing += [name for name in members if os.path.basename(name) not in known]
    if missing:
        raise ClipinError(
            f"{len(missing)} of {len(names)} image files named in {named_in} are not "
            f"in {folder} ({first_few(missing)}); add them, or remove their entries"
        )


def _local(folder: str) -> dict[str, bool]:
    """Whether each name in a folder is a folder."""
    with os.scandir(os.path.expanduser(folder) or ".") as entries:
        return {entry.name: entry.is_dir() for entry in entries}


def _remote(folder: str) -> dict[str, bool]:
    storage.exists(folder)  # says in words why a store is out of reach
    from fsspec.core import url_to_fs

    store, path = url_to_fs(folder)
    found = {}
    for entry in store.ls(path, detail=True):
        name = entry["name"].rstrip("/")
        if name != path.rstrip("/"):  # some stores name the folder itself
            found[name.rpartition("/")[2]] = entry["type"] == "directory"
    return found


def _walk(root: str, inside: str, above: tuple[str, ...]) -> Iterator[str]:
    folder = storage.join(root, inside) if inside else root
    real = folder if storage.is_remote(folder) else os.path.realpath(folder)
    found = list_folder(folder)
    if found is None or real in above:
        return
    start = f"{inside}/" if inside else ""
    yield from (start + name for name in found.files if name[0] != ".")
    for name in found.folders:
        if name[0] != ".":
            yield from _walk(root, start + name, (*above, real))
