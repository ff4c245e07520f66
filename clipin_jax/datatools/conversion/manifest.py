"""The manifest of a converted data set: its files, and the records left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.parts.folder import Entry

FORMAT = "clipin_jax 1"
NAME = "manifest.json"

# Facts that must be equal to resume a conversion.
SAME = ("format", "fingerprint", "to", "records_per_file")
_OF_FILE = ("records", "bytes", "sha256", "seen")  # what the manifest says of a file


class Manifest:
    """The manifest of a folder, which is there when all files are.

    Args:
      folder: of the files.
      facts: its content that is known before any record is read.

    Attributes:
      facts: with the format.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        self._path = folder / NAME
        self.facts = {"format": FORMAT, **facts}

    def entries(self) -> dict[str, Entry]:
        """Returns the entry of each file; none without a manifest.

        Raises:
          ClipinError: it is damaged, or of another conversion.
        """
        existing = self._read()
        if existing is None:
            return {}
        for key in SAME:
            if existing.get(key) != self.facts[key]:
                raise ClipinError(
                    f"{self._path.parent} was written with another {key}: "
                    f"{existing.get(key)!r}, now {self.facts[key]!r}; choose another "
                    "folder, or --overwrite"
                )
        size = self.facts["records_per_file"]
        entries = {
            name: {**entry, "bad": []} for name, entry in existing["files"].items()
        }
        names = list(entries)
        for record in existing["bad"]:
            entries[names[record["index"] // size]]["bad"].append(record)
        return entries

    def write(self, names: Sequence[str], entries: Sequence[Entry]) -> None:
        """Writes the manifest of all files. Raises OSError."""
        files = zip(names, entries, strict=True)
        content = self.facts | {
            "records": sum(entry["records"] for entry in entries),
            "files": {
                name: {key: entry[key] for key in _OF_FILE} for name, entry in files
            },
            "bad": [record for entry in entries for record in entry["bad"]],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        storage.write(str(self._path), text.encode())

    def remove(self) -> None:
        """Removes the manifest and its files."""
        for name in (*((self._read() or {}).get("files", ())), NAME):
            # Only the last part of a name, so that nothing outside is removed.
            (self._path.parent / Path(name).name).unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return content | {key: content[key] for key in ("files", "bad")}
        except (ValueError, KeyError, TypeError) as error:
            raise ClipinError(
                f"{self._path} is damaged: remove it and convert with --overwrite"
            ) from error
