"""Unpacks compressed files once, so that they can be read at random.

The copy lies beside the file, or in a temporary folder where that is not writable. Its
name depends on size and date of the file, so that a changed file is unpacked again.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import logging
import lzma
import os
import shutil
import tempfile
import uuid
import zlib
from pathlib import Path

from clipin_jax import storage
from clipin_jax.data.content import HEAD, packed_with
from clipin_jax.data.source import fingerprint
from clipin_jax.errors import ClipinError, first_line

UNPACKED = ".unpacked"  # the end of a copy's name
ENDINGS = (".gz", ".bz2", ".xz")

_OPENERS = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_BLOCK = 1 << 22  # bytes copied at once
_log = logging.getLogger(__name__)


def plain_name(path: str) -> str:
    """Returns the name of a file in lower case, without the ending of a compression."""
    name = path.lower()
    return name[: name.rindex(".")] if name.endswith(ENDINGS) else name


def unpack(content: bytes, path: str) -> bytes:
    """Returns the content of a file, unpacked if it is compressed.

    Raises:
      ClipinError: it is damaged.
    """
    packing = packed_with(content)
    if packing not in _OPENERS:
        return content
    modules = {"gzip": gzip, "bzip2": bz2, "xz": lzma}
    try:
        return modules[packing].decompress(content)
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, packing, error) from error


def plain_file(path: str, folder: str = "") -> str:
    """Returns an uncompressed copy of a file, or its own path if it is plain.

    Args:
      path: of the file; a remote file is never unpacked.
      folder: of the copy; "" for the folder of the file.

    Raises:
      ClipinError: the file is damaged, or no folder can hold the copy.
      OSError: the file cannot be read.
    """
    if storage.is_remote(path):
        return path
    with open(path, "rb") as file:
        packing = packed_with(file.read(HEAD))
    if packing not in _OPENERS:
        return path
    state = os.stat(path)
    stamp = fingerprint(os.path.abspath(path), state.st_size, state.st_mtime_ns)
    name = f"{os.path.basename(path)}.{stamp}{UNPACKED}"
    temporary = os.path.join(tempfile.gettempdir(), f"clipin_jax-{os.getuid()}")
    folders = [folder or os.path.dirname(path) or ".", temporary]
    for copy in (Path(each).expanduser() / name for each in folders):
        if copy.is_file() or _copy(path, packing, copy):
            return str(copy)
    raise ClipinError(
        f"{path} is compressed ({packing}) and can be unpacked neither to {folders[0]} "
        f"nor to {folders[1]}: unpack it yourself"
    )


def _copy(path: str, packing: str, copy: Path) -> bool:
    """Unpacks a file. Returns whether the folder of the copy can hold it."""
    unfinished = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _OPENERS[packing](path, "rb") as packed, unfinished.open("wb") as plain:
            shutil.copyfileobj(packed, plain, _BLOCK)
        os.replace(unfinished, copy)
    except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, packing, error) from error
    except OSError as error:
        if error.errno is None:  # not of the system, but of the data
            raise _damaged(path, packing, error) from error
        return False
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    megabytes = copy.stat().st_size / 1e6
    _log.warning("%s: unpacked to %s, %.1f MB", path, copy, megabytes)
    return True


def _damaged(path: str, packing: str, error: Exception) -> ClipinError:
    return ClipinError(
        f"{path} is compressed ({packing}) and damaged ({first_line(error)}); write it "
        "again, or leave it out of source.files"
    )
