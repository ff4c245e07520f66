"""The manifest of a checkpoint: facts, and a checksum of each other file.

It detects truncated copies and flipped bits before an array is read.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "manifest.json"
SCORES = "scores.json"


class DamageError(Exception):
    """A checkpoint is damaged; the text completes a sentence about it."""


def write_checksums(folder: Path, facts: dict[str, Any]) -> None:
    """Writes the facts and the checksums of all files in the subfolders of `folder`.

    Files directly in `folder` are left out: orbax may still change them.

    Args:
      folder: a checkpoint whose arrays are written.
      facts: a dict that JSON can write, without the key "files".

    Raises:
      OSError: a file cannot be read or written.
    """
    files = {
        str(path.relative_to(folder)): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder
    }
    body = json.dumps(facts | {"files": files})
    content = {"body": body, "checksum": zlib.crc32(body.encode())}
    (folder / NAME).write_text(json.dumps(content))


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns the facts of a checkpoint without reading its arrays.

    Raises:
      DamageError: the file of facts is missing or damaged.
    """
    try:
        content = json.loads((folder / NAME).read_bytes())
        body, checksum = content["body"].encode(), content["checksum"]
    except FileNotFoundError:
        reason = f"{NAME} is missing, so it was never finished"
        raise DamageError(reason) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"{NAME} cannot be read: {error}") from error
    if zlib.crc32(body) != checksum:
        raise DamageError(f"{NAME} cannot be read: its checksum differs")
    return json.loads(body)


def read_verified_facts(folder: Path) -> dict[str, Any]:
    """Returns the facts of a checkpoint after comparing the checksum of every file.

    Raises:
      DamageError: a file is missing or has changed.
    """
    facts = read_facts(folder)
    for name, checksum in facts["files"].items():
        try:
            same = file_checksum(folder / name) == checksum
        except OSError as error:
            raise DamageError(f"{name} cannot be read: {error.strerror}") from error
        if not same:
            raise DamageError(f"{name} was changed or cut")
    return facts


def write_scores(folder: Path, scores: Mapping[str, float]) -> None:
    """Writes the scores of a finished checkpoint beside its arrays.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = folder / f"{SCORES}.tmp"
    temporary.write_text(json.dumps(dict(scores)))
    temporary.replace(folder / SCORES)


def read_scores(folder: Path) -> dict[str, float] | None:
    """Returns the scores of a checkpoint; None if it was not evaluated to the end."""
    try:
        scores = json.loads((folder / SCORES).read_bytes())
        return {str(name): float(value) for name, value in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def file_checksum(path: Path) -> int:
    """Returns the CRC-32 of a file, read in blocks of 4 MiB."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
