"""Lists the bad records of a run with reasons, and judges their share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError

_CERTAINTY = math.log(1e6)  # a fair share stops one run in a million


def exceeds(limit: float, *, bad: int, read: int, total: int) -> bool:
    """Whether the bad records among those read show that the share is above a limit.

    That is so if they are too many for the whole epochs that have begun, or if they are
    so many that chance does not explain it (Chernoff's bound for a binomial).

    Args:
      limit: greatest share of all records that may be bad, from 0 to 1.
      bad: number of bad records among those read.
      read: number of records read, in a random order.
      total: number of records of an epoch.
    """
    # Rounding must not turn an equal share into a greater one.
    if bad > limit * total * math.ceil(read / total) + 1e-6:
        return True
    share = bad / read
    if share <= limit:
        return False
    divergence = share * math.log(share / limit)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - limit))
    return read * divergence > _CERTAINTY


class BadRecordLog:
    """Lists each bad record once, as a line of JSON: `index`, `where`, `reason`.

    Args:
      path: a file to append to, or to create with the first record; None for no file.

    Attributes:
      entry: the last record that was added or looked up.

    Raises:
      ClipinError: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._entries: dict[int, dict[str, Any]] = {}
        self.entry: dict[str, Any] = {}
        if path is not None and path.is_file():
            self._entries = _read(path)

    def __contains__(self, index: int) -> bool:
        self.entry = self._entries.get(index, self.entry)
        return index in self._entries

    def add(self, index: int, where: str, reason: str) -> None:
        """Adds a record that is not in the list yet."""
        self.entry = {"index": index, "where": where, "reason": reason}
        self._entries[index] = self.entry
        if self._path is None:
            return
        try:
            # The name of a file may be no Unicode; JSON can hold it with backslashes.
            with self._path.open(
                "a", encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write(json.dumps(self.entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ClipinError(f"cannot write {self._path}: {error.strerror}") from error


def _read(path: Path) -> dict[int, dict[str, Any]]:
    """Returns the entries of a file; removes a last line that a crash cut off."""
    entries = {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in lines[:-1]:
        try:
            entry = json.loads(line)
            entries[int(entry["index"])] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise ClipinError(
                f"{path} is damaged at {line[:60]!r}: remove the file"
            ) from error
    if lines[-1]:
        path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    return entries
