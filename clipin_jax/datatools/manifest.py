"""What a converted data set says about itself, and how far its making has come."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError

FORMAT = "clipin_jax 1"
NAME = "manifest.json"
PARTIAL = "manifest.partial.json"  # until all files are written

# What files of one data set must have in common.
_SAME = ("format", "fingerprint", "to", "records_per_file")


class Manifest:
    """The manifest of a folder, read if there is one and written after each file.

    Args:
      folder: made if need be.
      facts: what is known before any record is read.
      overwrite: whether files of an earlier conversion are removed.

    Attributes:
      whole: whether the conversion is complete.
      files: name -> records, bytes, sha256 and how many source records were `seen`.
      bad: records that were left out.

    Raises:
      ClipinError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], overwrite: bool):
        self._folder, self._facts = folder, dict(facts)
        self.files: dict[str, dict[str, Any]] = {}
        self.bad: list[dict[str, Any]] = []
        self.whole = False
        folder.mkdir(parents=True, exist_ok=True)
        kept = self._read()
        if kept is None:
            if not overwrite and any(folder.iterdir()):
                raise ClipinError(
                    f"{folder} is not empty and has no {NAME}: choose another folder, "
                    "or --overwrite"
                )
        elif overwrite:
            self._remove(kept)
        else:
            self._go_on(kept)

    def done(self, name: str) -> bool:
        """Whether a file is complete; its bytes are counted, not read."""
        path, entry = self._folder / name, self.files.get(name)
        return bool(entry) and path.is_file() and path.stat().st_size == entry["bytes"]

    def add(self, name: str, entry: dict[str, Any], bad: list[dict[str, Any]]) -> None:
        """Notes a complete file and the records that were left out of it."""
        self.files[name] = entry
        known = {one["index"] for one in bad}
        self.bad = [one for one in self.bad if one["index"] not in known] + bad
        self._write(PARTIAL)

    def finish(self) -> None:
        """Says that all files are there."""
        self._write(NAME)
        (self._folder / PARTIAL).unlink(missing_ok=True)

    def records(self) -> int:
        """How many records the files have together."""
        return sum(entry["records"] for entry in self.files.values())

    def _read(self) -> dict[str, Any] | None:
        for name in (NAME, PARTIAL):
            path = self._folder / name
            if not path.is_file():
                continue
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                kept = kept | {key: kept[key] for key in ("files", "bad")}
            except (ValueError, KeyError, TypeError) as error:
                raise ClipinError(
                    f"{path} is damaged: remove it and convert with --overwrite"
                ) from error
            self.whole = name == NAME
            return kept
        return None

    def _go_on(self, kept: dict[str, Any]) -> None:
        for key in _SAME:
            if kept.get(key) != self._facts[key]:
                raise ClipinError(
                    f"{self._folder} was written with another {key}: "
                    f"{kept.get(key)!r}, now {self._facts[key]!r}; choose another "
                    "folder, or --overwrite"
                )
        self.files, self.bad = kept["files"], kept["bad"]

    def _remove(self, kept: dict[str, Any]) -> None:
        self.whole = False
        for name in (*kept["files"], NAME, PARTIAL):
            # By its last part alone: nothing outside the folder is ever removed.
            (self._folder / Path(name).name).unlink(missing_ok=True)

    def _write(self, name: str) -> None:
        content = self._facts | {
            "records": self.records(),
            "files": dict(sorted(self.files.items())),
            "bad": sorted(self.bad, key=lambda one: one["index"]),
        }
        path = self._folder / name
        draft = path.with_suffix(".tmp")
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
