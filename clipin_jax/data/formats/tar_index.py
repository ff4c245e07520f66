"""Indexes the samples of a tar: the offsets of their files.

This requires a read of every header, so the index is kept in a small file beside the
tar or in another folder.
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

from clipin_jax import storage
from clipin_jax.data.content import HEAD, describe_content, packed_with
from clipin_jax.data.formats.tar_headers import Fault, Window, walk
from clipin_jax.data.source import fingerprint
from clipin_jax.errors import ClipinError

SUFFIX = ".index.npz"  # of the index, after the name of the tar

_VERSION = 2  # of the index
_MOST_APART = 1 << 22  # samples of a tar whose files are joined, with 100 bytes each
_NAME_CHUNK = 1 << 12  # bytes read to find one name
_ARRAYS = ("starts", "faults", "rows", "kinds", "offsets", "sizes")


class TarIndex(NamedTuple):
    """Samples of a tar: files with the same key, consecutive or apart.

    Of each sample:
      starts: [samples] int64, offset of its first header.
      faults: [samples] uint8, a `Fault`.
    Of each file:
      rows: [files] uint32, number of its sample.
      kinds: [files] uint32, number of its extension.
      offsets: [files] int64, of its content.
      sizes: [files] int64, of its content; a negated `Fault` if it cannot be used.
    Of the tar:
      extensions: all that occur, in lower case.
      trouble: its faults as a text, for a warning; "" for none.
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
        """Returns offset and size of the first file of each sample with an extension.

        Args:
          extensions: any of these.

        Returns:
          Both [samples] int64; without such a file the size is `-Fault.ABSENT`.
        """
        codes = [n for n, name in enumerate(self.extensions) if name in extensions]
        # In reverse order, so that the first file of a sample is assigned last.
        selected = np.flatnonzero(np.isin(self.kinds, codes))[::-1]
        offsets = np.zeros(len(self.starts), np.int64)
        sizes = np.full(len(self.starts), -int(Fault.ABSENT), np.int64)
        offsets[self.rows[selected]] = self.offsets[selected]
        sizes[self.rows[selected]] = self.sizes[selected]
        return offsets, sizes

    def counts(self) -> Counter[str]:
        """Returns the number of files with each extension."""
        numbers = np.bincount(self.kinds, minlength=len(self.extensions)).tolist()
        counts = Counter()
        for name, number in zip(self.extensions, numbers, strict=True):
            counts[name] += number
        return counts


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """Returns key and extension, split at the first dot of the base name.

    Both are empty for folders, hidden files, and files without an extension.
    """
    folder, slash, base = name.rpartition(b"/")
    stem, _, extension = base.partition(b".")
    if not stem or not extension:
        return b"", b""
    return folder + slash + stem, extension


def read_key(path: str, start: int) -> str:
    """Returns the key of the sample at an offset, "" if none. Raises OSError.

    Args:
      path: of the tar.
      start: offset of the sample's first header.
    """
    with Window(path, _NAME_CHUNK) as window:
        member = next(walk(window, start), None)
    return split_name(member.name)[0].decode(errors="replace") if member else ""


def read_index(path: str, folder: str = "") -> tuple[TarIndex, bool]:
    """Returns the index of a tar: loaded, or made and saved.

    Args:
      path: of the tar, or its URL.
      folder: of the index; "" for the folder of the tar, if that is local.

    Returns:
      The index, and whether it is saved; a read-only folder prevents that.

    Raises:
      ClipinError: the tar is compressed.
      OSError: the tar cannot be read.
    """
    with Window(path) as window:
        index_path = _index_path(path, folder)
        stamp = (_VERSION, *window.stamp())
        if index := _load(index_path, stamp):
            return index, True
        index = _make(window)
    return index, _save(index_path, index, stamp)


def _make(window: Window) -> TarIndex:
    starts, keys, faults = array("q"), array("q"), array("B")
    rows, kinds, offsets, sizes = array("I"), array("I"), array("q"), array("q")
    codes: dict[bytes, int] = {}
    last, row, troubles, has_files = b"", 0, Counter(), False
    for name, start, data, size, fault in walk(window):
        has_files = has_files or bool(name)
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
    if not has_files and window.size and set(troubles) & {Fault.DAMAGED, Fault.UNENDED}:
        return _index_of_no_tar(window)
    index = TarIndex(
        *map(np.asarray, (starts, faults, rows, kinds, offsets, sizes)),
        extensions=tuple(code.decode(errors="replace") for code in codes),
        trouble=_describe(troubles) if has_files else "no files in it",
        size=window.size,
    )
    index, kept = _join_apart(index, np.asarray(keys))
    _mark_repeated(index, np.asarray(keys)[kept])
    return index


def _index_of_no_tar(window: Window) -> TarIndex:
    """Returns an index of one sample with the fault NO_TAR."""
    head = window.read(0, HEAD)
    if name := packed_with(head):
        raise ClipinError(
            f"{window.path} is compressed ({name}): unpack it to a plain .tar "
            "first; samples inside a compressed one cannot be read by themselves"
        )
    content = describe_content(head)
    none = np.zeros(0, np.int64)
    return TarIndex(
        starts=np.zeros(1, np.int64),
        faults=np.array([Fault.NO_TAR], np.uint8),
        rows=none,
        kinds=none,
        offsets=none,
        sizes=none,
        extensions=(),
        trouble=Fault.NO_TAR.reason + f", but {content}" * bool(content),
        size=window.size,
    )


def _join_apart(index: TarIndex, keys: np.ndarray) -> tuple[TarIndex, np.ndarray]:
    """Joins samples whose files are apart, as `tar cf a.tar *.jpg *.txt` leaves them.

    A sample is joined to an earlier one with its key, unless both have a file with the
    same extension, or one is faulty.

    Args:
      index: of the tar.
      keys: [samples] int, hash of each key.

    Returns:
      The index, and the numbers of the samples that are left: [n] int.
    """
    count = len(keys)
    apart = _repeated(keys)
    everything = np.arange(count)
    if not len(apart) or len(apart) > _MOST_APART:
        return index, everything
    bounds = np.searchsorted(index.rows, np.arange(count + 1))
    first_of: dict[int, int] = {}
    kinds_of: dict[int, set[int]] = {}
    target = everything.copy()
    for row in np.flatnonzero(np.isin(keys, keys[apart])).tolist():
        kinds = set(index.kinds[bounds[row] : bounds[row + 1]].tolist())
        first = first_of.setdefault(int(keys[row]), row)
        if first == row:
            kinds_of[row] = kinds
        elif not (kinds & kinds_of[first] or index.faults[row] or index.faults[first]):
            target[row] = first
            kinds_of[first] |= kinds
    kept = np.flatnonzero(target == everything)
    rows = np.searchsorted(kept, target)[index.rows].astype(index.rows.dtype)
    joined = index._replace(
        starts=index.starts[kept], faults=index.faults[kept], rows=rows
    )
    return joined, kept


def _mark_repeated(index: TarIndex, keys: np.ndarray) -> None:
    """Marks samples that repeat a key or have two files of one extension."""
    index.faults[_repeated(keys)] = Fault.TWICE
    kinds = index.rows * np.int64(len(index.extensions)) + index.kinds
    index.faults[index.rows[_repeated(kinds)]] = Fault.DOUBLE


def _repeated(values: np.ndarray) -> np.ndarray:
    """Returns the indices of values that also occur at an earlier index."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return order[1:][same]


def _describe(troubles: Counter[Fault]) -> str:
    return "; ".join(
        fault.reason + (f" ({count} times)" if count > 1 else "")
        for fault, count in troubles.items()
    )


def _index_path(path: str, folder: str) -> str:
    """Returns the file of a tar's index; "" for none."""
    if not folder:
        return "" if storage.is_remote(path) else path + SUFFIX
    # Tars of several folders may have the same name.
    name = path.replace("\\", "/").rpartition("/")[2]
    return storage.join(folder, f"{name}.{fingerprint(path)}{SUFFIX}")


def _load(index_path: str, stamp: tuple[int, ...]) -> TarIndex | None:
    """Returns a saved index, if the tar has not changed since."""
    if not os.path.isfile(index_path):
        return None
    try:
        with open(index_path, "rb") as file, np.load(file) as saved:
            about = json.loads(saved["about"].tobytes())
            if tuple(about["stamp"]) != stamp:
                return None
            arrays = {name: saved[name] for name in _ARRAYS}
        names = tuple(about["extensions"])
        return TarIndex(
            **arrays, extensions=names, trouble=about["trouble"], size=about["size"]
        )
    # numpy and json raise all kinds of errors on a damaged file.
    except Exception:
        return None


def _save(index_path: str, index: TarIndex, stamp: tuple[int, ...]) -> bool:
    """Saves an index atomically. Returns whether it is saved."""
    if not index_path:
        return False
    about = dict(
        stamp=stamp,
        extensions=index.extensions,
        trouble=index.trouble,
        size=index.size,
    )
    content = np.frombuffer(json.dumps(about).encode(), np.uint8)
    unfinished = f"{index_path}.{uuid.uuid4().hex}"
    try:
        os.makedirs(os.path.dirname(index_path) or ".", exist_ok=True)
        with open(unfinished, "wb") as file:
            arrays = {name: getattr(index, name) for name in _ARRAYS}
            np.savez(file, about=content, **arrays)
        os.replace(unfinished, index_path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        return False
    return True
