"""Reads the headers of a tar: its files, and the offset of each.

A tar has no table of contents: a header of 512 bytes precedes each file. The formats
ustar, pax, GNU and v7 are read. Damaged parts are skipped.
"""

from __future__ import annotations

import enum
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from clipin_jax import storage

_BLOCK = 512
# Name, size, checksum, type, magic, first part of the name.
_HEADER = struct.Struct("100s24x12s12x8s1s100x6s82x155s")
_MAGIC, _MAGIC_AT = b"ustar", 257
_MODULUS = 65521  # of Adler-32
_EXTENDED = {b"x", b"X", b"g", b"L", b"K"}  # headers that extend the next one
_LONGEST_EXTENDED = 1 << 20  # bytes in such a header; a longer one is ignored
_SPARSE = b"S"
_NO_FILES = {b"5", b"D", b"V"}  # folders, and the name of an archive
_NO_CONTENT = {b"1", b"2", b"3", b"4", b"5", b"6"}  # even if the header has a size
_CHUNK = 1 << 14  # bytes read at once
_REMOTE_CHUNK = 1 << 22  # the same for stores, where each read is a request


class Fault(enum.IntEnum):
    """The reason why a file in a tar, or a sample, cannot be used."""

    NONE = 0
    ABSENT = 1
    LINK = 2
    SPECIAL = 3
    CUT = 4
    UNENDED = 5
    DAMAGED = 6
    NO_TAR = 7
    TWICE = 8
    DOUBLE = 9

    @property
    def reason(self) -> str:
        """The fault as a text, "" for none."""
        return _REASONS[self]


_REASONS = {
    Fault.NONE: "",
    Fault.ABSENT: "missing",
    Fault.LINK: "a link, not a file",
    Fault.SPECIAL: "a device or a sparse file, not a plain one",
    Fault.CUT: "truncated: the tar ends here",
    Fault.UNENDED: "the tar lacks the blocks that should end it",
    Fault.DAMAGED: "damaged: no header of a tar where one should be",
    Fault.NO_TAR: "not a tar",
    Fault.TWICE: "the key occurs twice in this tar",
    Fault.DOUBLE: "two of its files have the same extension",
}
_FAULTS = {b"0": Fault.NONE, b"\0": Fault.NONE, b"7": Fault.NONE}
_FAULTS |= {b"1": Fault.LINK, b"2": Fault.LINK}


class Member(NamedTuple):
    """A file in a tar; without a name, the damaged bytes in place of one.

    start: offset of its header, or of the first of several.
    data: offset of its content.
    """

    name: bytes
    start: int
    data: int
    size: int
    fault: Fault


class Window:
    """Reads a file through a buffer of one chunk. Raises OSError.

    Args:
      path: of the file, or its URL.
      chunk: bytes read at once; 0 for a size that suits reading all headers.
    """

    def __init__(self, path: str, chunk: int = 0):
        self.path = path
        # `storage` keeps files open, but this one may have been replaced.
        self._file = None if storage.is_remote(path) else open(path, "rb", buffering=0)
        self._chunk = chunk or (_CHUNK if self._file else _REMOTE_CHUNK)
        self._first, self._data = 0, b""
        if self._file:
            state = os.fstat(self._file.fileno())
            self.size, self._changed = state.st_size, state.st_mtime_ns
        else:
            self.size, self._changed = storage.size(path), 0

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file:
            self._file.close()

    def stamp(self) -> tuple[int, int]:
        """Returns numbers that change if the file changes."""
        if self._file:
            return self.size, self._changed
        # Not every store has a time of change; the first header of a tar has one.
        return self.size, zlib.crc32(self._fetch(0, _BLOCK))

    def read(self, at: int, length: int = _BLOCK) -> bytes:
        """Returns part of the file, less if the file ends before."""
        inside = at - self._first
        if not 0 <= inside <= len(self._data) - length:
            self._data = self._fetch(at, max(length, self._chunk))
            self._first, inside = at, 0
        return self._data[inside : inside + length]

    def _fetch(self, at: int, length: int) -> bytes:
        length = max(min(length, self.size - at), 0)
        if self._file:
            return os.pread(self._file.fileno(), length, at)
        return storage.read_range(self.path, at, length) if length else b""

    def behind_zeros(self, at: int) -> int:
        """Returns the offset after the blocks of zeros that begin at `at`."""
        while len(data := self.read(at, self._chunk)) >= _BLOCK:
            rest = len(data.lstrip(b"\0"))
            at += (len(data) - rest) // _BLOCK * _BLOCK
            if rest:
                break
        return at

    def next_header(self, at: int) -> int:
        """Returns the offset of the next header from `at` on, else the file's size."""
        while len(data := self.read(at, self._chunk)) >= _BLOCK:
            magic = data.find(_MAGIC, _MAGIC_AT)
            while magic >= 0:
                start = magic - _MAGIC_AT
                if _header(data[start : start + _BLOCK]):
                    return at + start
                magic = data.find(_MAGIC, magic + 1)
            at += len(data) - _BLOCK + 1
        return self.size


def walk(window: Window, at: int = 0) -> Iterator[Member]:
    """Yields the files of a tar in order, and its faults.

    Blocks of zeros should end a tar, but are skipped: concatenated tars have some in
    the middle. If a header is missing, the bytes up to the next one are a
    member that is DAMAGED. If no zeros end the tar, a last member is UNENDED.
    """
    ended = False
    while at + _BLOCK <= window.size:
        parsed = _read_member(window, at)
        if parsed:
            member, at = parsed
            ended = member is not None and member.fault is Fault.CUT
            if member:
                yield member
            continue
        behind = window.behind_zeros(at)
        ended = behind > at
        if not ended:
            yield Member(b"", at, at, 0, Fault.DAMAGED)
            behind = window.next_header(at + 1)
        at = behind
    if not ended:
        yield Member(b"", at, at, 0, Fault.UNENDED)


def _read_member(window: Window, start: int) -> tuple[Member | None, int] | None:
    """Returns a member, None for a folder, and the offset of the next header.

    Returns None if there is no header at `start`.
    """
    at, extensions = start, {}
    while header := _header(window.read(at)):
        name, size, kind = header
        data = at + _BLOCK
        if kind not in _EXTENDED:
            break
        if size <= _LONGEST_EXTENDED:
            extensions |= _parse_extended(kind, window.read(data, size))
        at = data + _padded(size)
        if at + _BLOCK > window.size:
            return Member(b"", start, at, 0, Fault.CUT), window.size
    else:
        return None
    fault = _FAULTS.get(kind, Fault.SPECIAL)
    if extensions:
        name, size, fault = _extend(extensions, name, size, fault)
    if kind == _SPARSE:
        data = _skip_sparse_map(window, at)
    elif kind in _NO_CONTENT:
        size = 0
    if data + size > window.size:
        return Member(name, start, data, 0, Fault.CUT), window.size
    behind = data + _padded(size)
    if kind in _NO_FILES:
        return None, behind
    return Member(name, start, data, size, fault), behind


def _header(block: bytes) -> tuple[bytes, int, bytes] | None:
    """Returns name, size and type; None if this is no header."""
    if len(block) < _BLOCK:
        return None
    name, size, checksum, kind, magic, folder = _HEADER.unpack_from(block)
    expected, length = _number(checksum), _number(size)
    # The low half of Adler-32 is the sum of all bytes plus one, and much faster. The
    # checksum is that sum, with eight spaces in place of itself.
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(checksum) + 8 * 32
    if expected < 0 or length < 0 or (expected - total) % _MODULUS:
        return None
    name = name.partition(b"\0")[0]
    if magic == b"ustar\0" and folder[0]:
        name = folder.partition(b"\0")[0] + b"/" + name
    return name, length, kind


def _number(field: bytes) -> int:
    """Returns an octal number, or a large one in binary; -1 for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return -1


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _parse_extended(kind: bytes, data: bytes) -> dict[bytes, bytes]:
    """Returns the values for the next header, by the keys of pax."""
    if kind == b"L":
        return {b"path": data}
    values = {}
    while kind in (b"x", b"X"):
        # "LENGTH KEY=VALUE\n", one after the other
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or len(length) > 9 or int(length) <= len(length) + 1:
            break
        entry, data = rest[: int(length) - len(length) - 1], data[int(length) :]
        key, _, value = entry.removesuffix(b"\n").partition(b"=")
        values[key] = value
    return values


def _extend(
    extensions: dict[bytes, bytes], name: bytes, size: int, fault: Fault
) -> tuple[bytes, int, Fault]:
    """Returns name, size and fault, replaced by those of extended headers."""
    path = extensions.get(b"path", name)
    name = extensions.get(b"GNU.sparse.name", path).partition(b"\0")[0]
    length = extensions.get(b"size", b"")
    if length.isdigit() and len(length) < 20:
        size = int(length)
    if any(key.startswith(b"GNU.sparse") for key in extensions):
        fault = Fault.SPECIAL
    return name, size, fault


def _skip_sparse_map(window: Window, at: int) -> int:
    """Returns the offset of a sparse file's content, after the map of its holes."""
    more, at = window.read(at)[482], at + _BLOCK
    while more and at + _BLOCK <= window.size:
        more, at = window.read(at)[504], at + _BLOCK
    return at
