"""Recognizes image files by the ending of their name, else by their first bytes."""

from __future__ import annotations

import base64
import re
from collections import Counter

from clipin_jax import storage

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".png", ".apng",
    ".webp", ".avif", ".avifs", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip

_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,7}$")  # others are parts of a name
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*",
    b"\0\0\0\x0cjP  ",
)  # fmt: skip
_BRANDS = (b"WEBP", b"avif", b"avis")  # from byte 8 on
_LONGEST_SIGNATURE = 12
_SHORTEST_BASE64 = 64  # letters; no image is shorter
_FROM_URLSAFE = str.maketrans("-_", "+/")


def ending(name: str) -> str:
    """Returns the ending of a file's name in lower case, with its dot; "" for none."""
    match = _ENDING.search(name.lower().rpartition("/")[2])
    return match[0] if match and match.start() else ""


def is_image(path: str) -> bool:
    """Tells whether a file is an image; one without an ending is looked into.

    A file without an ending that cannot be read is none.
    """
    kind = ending(path)
    if kind:
        return kind in ENDINGS
    try:
        head = storage.read_range(path, 0, _LONGEST_SIGNATURE)
    except OSError:
        return False
    return has_image_signature(head)


def has_image_signature(head: bytes) -> bool:
    """Tells whether the first bytes of a file are those of an image."""
    return head.startswith(_SIGNATURES) or head[8:12] in _BRANDS


def embedded_image(text: str) -> bytes | None:
    """Returns the image that a text holds in base64; None if it holds none.

    Both alphabets, line breaks, missing padding and `data:image/...;base64,` are read.
    """
    start, comma, rest = text.partition(",")
    if start.startswith("data:") and comma:
        text = rest
    elif len(text) < _SHORTEST_BASE64:
        return None
    standard = "".join(text.split()).translate(_FROM_URLSAFE).rstrip("=")
    try:
        content = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:  # also of letters outside of ASCII
        return None
    return content if has_image_signature(content) else None


def count_kinds(names: list[str]) -> str:
    """Returns how many files have which ending, as "3 .txt, 1 without an ending"."""
    counts = Counter(ending(name) for name in names)
    return ", ".join(
        f"{count} {kind or 'without an ending'}" for kind, count in counts.most_common()
    )
