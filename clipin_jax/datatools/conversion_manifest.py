"""The manifest of a converted data set: its files, and what is left to convert."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.datatools.record_scan import UnusableRecord
from clipin_jax.errors import ClipinError

FORMAT = "clipin_jax 1"
_NAME = "manifest.json"
_PARTIAL = "manifest.partial.json"  # its name until all files are written

# Facts that must be equal to resume a conversion.
_SAME = ("format", "fingerprint", "to", "records_per_file")


class ConversionManifest:
    """The manifest of a folder. It is read if it exists, and written after each file.

    Args:
      folder: of the files; created if needed.
      facts: content of the manifest that is known before any record is read.
      overwrite: whether to remove the files of an earlier conversion.

    Attributes:
      complete: whether all files are written.
      files: name -> records, bytes, sha256, and `seen`, the source records read.
      bad: records that were left out: index, where, reason.

    Raises:
      ClipinError: the folder holds other files, or cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], overwrite: bool):
        self._folder, self._facts = folder, dict(facts)
        self.files: dict[str, dict[str, Any]] = {}
        self.bad: list[dict[str, Any]] = []
        self.complete = False
        folder.mkdir(parents=True, exist_ok=True)
        existing = self._read()
        if existing is None:
            if not overwrite and any(folder.iterdir()):
                raise ClipinError(
                    f"{folder} is not empty and has no {_NAME}: choose another folder, "
                    "or --overwrite"
                )
        elif overwrite:
            self._remove(existing)
        else:
            self._resume(existing)

    def is_written(self, name: str) -> bool:
        """Returns whether a file is complete, judged by its size."""
        path, entry = self._folder / name, self.files.get(name)
        return bool(entry) and path.is_file() and path.stat().st_size == entry["bytes"]

    def add(
        self, name: str, entry: dict[str, Any], unusable: list[UnusableRecord]
    ) -> None:
        """Adds a complete file and the records that were left out of it."""
        self.complete = False
        self.files[name] = entry
        indices = {record.index for record in unusable}
        self.bad = [record for record in self.bad if record["index"] not in indices]
        self.bad += [record._asdict() for record in unusable]
        self._write(_PARTIAL)

    def finish(self) -> None:
        """Marks the conversion as complete."""
        self._write(_NAME)
        (self._folder / _PARTIAL).unlink(missing_ok=True)

    def count_records(self) -> int:
        """Returns how many records the files have together."""
        return sum(entry["records"] for entry in self.files.values())

    def count_seen(self) -> int:
        """Returns how many records of the source were read for the files."""
        return sum(entry["seen"] for entry in self.files.values())

    def _read(self) -> dict[str, Any] | None:
        for name in (_NAME, _PARTIAL):
            path = self._folder / name
            if not path.is_file():
                continue
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                content = content | {key: content[key] for key in ("files", "bad")}
            except (ValueError, KeyError, TypeError) as error:
                raise ClipinError(
                    f"{path} is damaged: remove it and convert with --overwrite"
                ) from error
            self.complete = name == _NAME
            return content
        return None

    def _resume(self, existing: Mapping[str, Any]) -> None:
        for key in _SAME:
            if existing.get(key) != self._facts[key]:
                raise ClipinError(
                    f"{self._folder} was written with another {key}: "
                    f"{existing.get(key)!r}, now {self._facts[key]!r}; choose another "
                    "folder, or --overwrite"
                )
        self.files, self.bad = existing["files"], existing["bad"]

    def _remove(self, existing: Mapping[str, Any]) -> None:
        self.complete = False
        for name in (*existing["files"], _NAME, _PARTIAL):
            # Only the last part of a name, so that nothing outside is removed.
            (self._folder / Path(name).name).unlink(missing_ok=True)

    def _write(self, name: str) -> None:
        content = self._facts | {
            "records": self.count_records(),
            "files": dict(sorted(self.files.items())),
            "bad": sorted(self.bad, key=lambda record: record["index"]),
        }
        path = self._folder / name
        draft = path.with_suffix(".tmp")
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
