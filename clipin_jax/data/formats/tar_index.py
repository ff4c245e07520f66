"""The samples of a tar, and where each file of theirs lies.

Finding that out takes a look at every header, so it is kept in a small file for the
next time: beside the tar, or in another folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from array import array
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from clipin_jax.data import storage
from clipin_jax.data.formats.tar_headers import Fault, Window, walk
from clipin_jax.data.source import fingerprint
from clipin_jax.errors import ClipinError

SUFFIX = ".index.npz"  # of the file that is kept, behind the name of the tar

_VERSION = 1  # of that file
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_LONGEST_MAGIC = 6
_CHUNK_OF_ONE = 1 << 12  # bytes read to find out one name
_ARRAYS = ("starts", "faults", "rows", "kinds", "offsets", "sizes")


class TarIndex(NamedTuple):
    """Samples of a tar: files that follow one another and have the same key.

    Of each sample:
      starts: where its first header is.
      faults: a `Fault`.
    Of each file:
      rows: to which sample it belongs.
      kinds: which of the extensions it has.
      offsets: where its content begins.
      sizes: of its content; a `Fault` with a minus sign if it is of no use.
    Of the tar:
      extensions: all that occur, in lower case.
      trouble: what is wrong with it, for a warning.
      size: in bytes.
    """

    starts: np.ndarray
    faults: np.ndarray
    rows: np.ndarray
    kinds: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    extensions: tuple[str, ...]
    trouble: str
    size: int

    def column(self, extensions: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
        """Offset and size of each sample's first file with one of these extensions."""
        codes = [n for n, name in enumerate(self.extensions) if name in extensions]
        wanted = np.flatnonzero(np.isin(self.kinds, codes))[::-1]  # so the first stays
        offsets = np.zeros(len(self.starts), np.int64)
        sizes = np.full(len(self.starts), -int(Fault.ABSENT), np.int64)
        offsets[self.rows[wanted]] = self.offsets[wanted]
        sizes[self.rows[wanted]] = self.sizes[wanted]
        return offsets, sizes

    def counts(self) -> Counter[str]:
        """How many files have each extension."""
        numbers = np.bincount(self.kinds, minlength=len(self.extensions)).tolist()
        counts = Counter()
        for name, number in zip(self.extensions, numbers, strict=True):
            counts[name] += number
        return counts


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """Key and extension, parted by the first dot of the base name.

    Both are empty for folders, hidden files, and files without an extension.
    """
    folder, slash, base = name.rpartition(b"/")
    stem, _, extension = base.partition(b".")
    if not stem or not extension:
        return b"", b""
    return folder + slash + stem, extension


def read_key(path: str, start: int) -> str:
    """The key of the sample whose first header is there, "" if none. Raises OSError."""
    with Window(path, _CHUNK_OF_ONE) as window:
        found = next(walk(window, start), None)
    return split_name(found.name)[0].decode(errors="replace") if found else ""


def read_index(path: str, folder: str = "") -> tuple[TarIndex, bool]:
    """The index of a tar: as an earlier run kept it, else made and kept.

    Args:
      path: of the tar, or its URL.
      folder: where it is kept; "": beside the tar, if that is local.

    Returns:
      The index, and whether it is kept: it is not in a folder that is read-only.

    Raises:
      ClipinError: the tar is compressed.
      OSError: the tar cannot be read.
    """
    with Window(path) as window:
        place, stamp = _place(path, folder), (_VERSION, *window.stamp())
        if index := _load(place, stamp):
            return index, True
        index = _make(window)
    return index, _save(place, index, stamp)


def _make(window: Window) -> TarIndex:
    starts, keys, faults = array("q"), array("q"), array("B")
    rows, kinds, offsets, sizes = array("I"), array("I"), array("q"), array("q")
    codes: dict[bytes, int] = {}
    last, row, troubles, known = b"", 0, Counter(), False
    for name, start, data, size, fault in walk(window):
        known = known or bool(name)
        if not name or fault is Fault.CUT:
            troubles[fault] += 1
        key, extension = split_name(name)
        if fault is Fault.DAMAGED or key not in (b"", last):
            starts.append(start)
            keys.append(hash(key or start))
            faults.append(fault if fault is Fault.DAMAGED else Fault.NONE)
        if not key:
            continue
        if key != last:
            last, row = key, len(starts) - 1
        if fault is Fault.CUT:
            faults[row] = fault
        rows.append(row)
        kinds.append(codes.setdefault(extension.lower(), len(codes)))
        offsets.append(data)
        sizes.append(-fault if fault else size)
    if not known and window.size and set(troubles) & {Fault.DAMAGED, Fault.UNENDED}:
        return _no_tar(window)
    index = TarIndex(
        *map(np.asarray, (starts, faults, rows, kinds, offsets, sizes)),
        extensions=tuple(code.decode(errors="replace") for code in codes),
        trouble=_in_words(troubles) if known else "no files in it",
        size=window.size,
    )
    _mark_repeated(index, np.asarray(keys))
    return index


def _no_tar(window: Window) -> TarIndex:
    """One sample, which says so."""
    magic = window.read(0, _LONGEST_MAGIC)
    for start, name in _PACKED.items():
        if magic.startswith(start):
            raise ClipinError(
                f"{window.path} is compressed ({name}): unpack it to a plain .tar "
                "first, since nothing can be read from the middle of it"
            )
    none = np.zeros(0, np.int64)
    return TarIndex(
        starts=np.zeros(1, np.int64),
        faults=np.array([Fault.NO_TAR], np.uint8),
        rows=none,
        kinds=none,
        offsets=none,
        sizes=none,
        extensions=(),
        trouble=Fault.NO_TAR.reason,
        size=window.size,
    )


def _mark_repeated(index: TarIndex, keys: np.ndarray) -> None:
    """Marks samples with the key of an earlier one, or two files of one extension."""
    index.faults[_repeated(keys)] = Fault.TWICE
    kinds = index.rows * np.int64(len(index.extensions)) + index.kinds
    index.faults[index.rows[_repeated(kinds)]] = Fault.DOUBLE


def _repeated(values: np.ndarray) -> np.ndarray:
    """Where a value stands that stood before."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return order[1:][same]


def _in_words(troubles: Counter[Fault]) -> str:
    return "; ".join(
        fault.reason + (f" ({count} times)" if count > 1 else "")
        for fault, count in troubles.items()
    )


def _place(path: str, folder: str) -> str:
    """The file in which an index is kept; "" for none."""
    if not folder:
        return "" if storage.is_remote(path) else path + SUFFIX
    # Tars of several folders may have the same name.
    name = path.replace("\\", "/").rpartition("/")[2]
    return storage.join(folder, f"{name}.{fingerprint(path)}{SUFFIX}")


def _load(place: str, stamp: tuple[int, ...]) -> TarIndex | None:
    """What is kept, if it is of the tar as it is now."""
    if not os.path.isfile(place):
        return None
    try:
        with open(place, "rb") as file, np.load(file) as kept:
            about = json.loads(kept["about"].tobytes())
            if tuple(about["stamp"]) != stamp:
                return None
            arrays = {name: kept[name] for name in _ARRAYS}
        names = tuple(about["extensions"])
        return TarIndex(
            **arrays, extensions=names, trouble=about["trouble"], size=about["size"]
        )
    # A damaged file fails in as many ways as it has parts.
    except Exception:
        return None


def _save(place: str, index: TarIndex, stamp: tuple[int, ...]) -> bool:
    """Keeps an index, all of it or nothing; whether it could."""
    if not place:
        return False
    about = dict(
        stamp=stamp,
        extensions=index.extensions,
        trouble=index.trouble,
        size=index.size,
    )
    content = np.frombuffer(json.dumps(about).encode(), np.uint8)
    unfinished = f"{place}.{uuid.uuid4().hex}"
    try:
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
        with open(unfinished, "wb") as file:
            arrays = {name: getattr(index, name) for name in _ARRAYS}
            np.savez(file, about=content, **arrays)
        os.replace(unfinished, place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        return False
    return True
