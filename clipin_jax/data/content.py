"""Names what a file is by its first bytes, for messages about a wrong file."""

from __future__ import annotations

from clipin_jax.errors import ClipinError

HEAD = 512  # bytes that `describe_content` looks at

PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_STARTS = {
    b"version https://git-lfs": "a Git-LFS pointer: fetch the file with `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer: fetch the file with `git annex get`",
    b"<!doctype html": "an HTML page: the download failed",
    b"<html": "an HTML page: the download failed",
    b"<?xml": "an XML page, as stores send with an error: the download failed",
    b"PK\x03\x04": "a ZIP archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
}
_TAR_MAGIC = slice(257, 262)


def packed_with(head: bytes) -> str:
    """Returns the name of a compression, "" for none."""
    return next((name for start, name in PACKED.items() if head.startswith(start)), "")


def describe_content(head: bytes) -> str:
    """Returns what a file is and what to do, "" if its first bytes do not tell.

    Args:
      head: its first bytes, `HEAD` of them or fewer.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, name in _STARTS.items():
        if text[: len(start)].lower() == start.lower():
            return name
    if packing := packed_with(head):
        return f"compressed ({packing})"
    return "a tar" if head[_TAR_MAGIC] == b"ustar" else ""


def check_content(head: bytes, path: str, kind: str, key: str) -> None:
    """Checks that a file is none that `describe_content` knows.

    Args:
      head: its first bytes.
      path: of the file.
      kind: what it should be, as "table".
      key: the config key to set otherwise.

    Raises:
      ClipinError: it is one of those, with its name.
    """
    if content := describe_content(head):
        raise ClipinError(f"{path} is no {kind}, but {content}; set {key}")
