"""A seal on a folder: facts about it, and a checksum of every file in its folders.

A copy that was cut short or a bit that flipped is found before anything is read.
"""

import json
import zlib
from pathlib import Path
from typing import Any

NAME = "manifest.json"


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Seal what is in the subfolders of `folder`, with `facts` that JSON can hold.

    Files that lie in `folder` itself are not covered: they may still change.
    """
    files = {
        str(path.relative_to(folder)): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder
    }
    body = json.dumps(facts | {"files": files})
    sealed = {"body": body, "checksum": zlib.crc32(body.encode())}
    (folder / NAME).write_text(json.dumps(sealed))


def read(folder: Path) -> dict[str, Any]:
    """The facts. Raises OSError if there is no seal, ValueError if it is damaged."""
    sealed = json.loads((folder / NAME).read_bytes())
    try:
        body, checksum = sealed["body"].encode(), sealed["checksum"]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is no manifest") from None
    if zlib.crc32(body) != checksum:
        raise ValueError("its checksum differs")
    return json.loads(body)


def find_damage(folder: Path) -> str:
    """What is wrong with a sealed folder, in words; "" if nothing is."""
    try:
        files = read(folder)["files"]
    except FileNotFoundError:
        return f"{NAME} is missing, so it was never finished"
    except (OSError, ValueError) as error:
        return f"{NAME} can not be read: {error}"
    for name, checksum in files.items():
        try:
            if _checksum(folder / name) != checksum:
                return f"{name} was changed or cut"
        except OSError as error:
            return f"{name} can not be read: {error.strerror}"
    return ""


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
