"""A folder of shards, which says which of them are finished.

`FOLDER/.parts` has `job.json`, a receipt for each finished shard, and drafts. A shard
is written as a draft, renamed, and then gets its receipt: who dies on the way leaves a
draft that nobody reads. Two processes that make the same shard write the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError

Entry = dict[str, Any]  # what is known of a finished shard, for JSON

_HIDDEN, _JOB = ".parts", "job.json"
_COUNT = "parts"  # the key of their number


class ShardFolder:
    """The files of a job.

    Args:
      folder: of the files.
      facts: of the job, which must be equal for shards to belong together.
      known: entries of shards that need no receipt.
      remedy: what to do if the folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        *,
        known: Mapping[str, Entry],
        remedy: str,
    ):
        self.path, self._remedy = folder, remedy
        self._facts, self._known = dict(facts), known
        text = json.dumps(self._facts, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def begin(self, count: int | None = None, *, beside_others: bool = False) -> None:
        """Makes the folder, or goes on in it.

        Args:
          count: number of parts, if this is one of them.
          beside_others: whether the folder may hold other files.

        Raises:
          ClipinError: it holds other files, another job, or another number of parts.
          OSError: it cannot be made.
        """
        # Look before job.json is read: another process may write it, then its shards.
        is_free = beside_others or self._known or not self._has_others()
        job = self._read_job()
        if job is None and not is_free:
            raise ClipinError(
                f"{self.path} is not empty and has no manifest.json or {_HIDDEN}: "
                f"{self._remedy}"
            )
        self._hidden.mkdir(parents=True, exist_ok=True)
        if job is None:
            self._write_json(_JOB, {"facts": self._facts, _COUNT: count})
            return
        self.check_facts(job["facts"])
        before = job[_COUNT]
        if count and before is None:
            self._write_json(_JOB, {"facts": self._facts, _COUNT: count})
        elif count and count != before:
            raise ClipinError(
                f"{self.path} was begun in {before} parts, not {count}: give "
                f"--part I/{before}; without --part, one process makes all that is left"
            )

    def is_begun(self) -> bool:
        """Whether any job was begun in the folder."""
        return self._read_job() is not None

    def check_begun(self) -> None:
        """Raises ClipinError unless this job was begun in the folder."""
        job = self._read_job()
        if job is None:
            raise ClipinError(
                f"{self.path} was not begun on {socket.gethostname()}: give a folder "
                "on a disk that all machines share"
            )
        self.check_facts(job["facts"])

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Raises ClipinError if the folder's job has other facts."""
        for key, value in self._facts.items():
            if facts.get(key) != value:
                raise ClipinError(
                    f"{self.path} was written with another {key}: {facts.get(key)!r}, "
                    f"now {value!r}; {self._remedy}"
                )

    def count_parts(self) -> int | None:
        """Returns the number of parts; None if there are none."""
        job = self._read_job()
        return job[_COUNT] if job else None

    def entry(self, name: str) -> Entry | None:
        """Returns the entry of a finished shard; None if it is missing, or cut."""
        receipt, path = self.receipt(name), self.path / name
        with contextlib.suppress(OSError):
            if receipt and path.stat().st_size == receipt["bytes"]:
                return receipt
        return None

    def receipt(self, name: str) -> Entry | None:
        """Returns the entry of a shard that was finished, whatever its file is now.

        Raises:
          ClipinError: the receipt is that of another job.
        """
        path = self._hidden / f"{name}.json"
        try:
            content = json.loads(path.read_bytes())
            job, entry = content["job"], content["entry"]
            if not {"bytes", "sha256", "bad"} <= entry.keys():
                return None
        except FileNotFoundError:
            return self._known.get(name)
        except (ValueError, KeyError, TypeError, AttributeError):  # it is made again
            return None
        if job != self._digest:
            raise ClipinError(
                f"{path} is of another data set, or of other options: remove "
                f"{self.path / name} and it, and make this part again"
            )
        return entry

    def make(self, name: str, write: Callable[[Path], Entry]) -> Entry:
        """Returns the entry of a shard, which is made unless it is finished.

        Args:
          name: of the file.
          write: writes it to the path that it is given, and returns its facts.

        Raises:
          What `write` raises; OSError: it cannot be written.
        """
        if entry := self.entry(name):
            return entry
        # A new folder for each: files of an earlier attempt may still be open.
        drafts = Path(tempfile.mkdtemp(prefix="draft-", dir=self._hidden))
        try:
            draft = drafts / name
            entry = write(draft)
            entry |= {"bytes": draft.stat().st_size, "sha256": checksum(draft)}
            draft.replace(self.path / name)
        finally:
            shutil.rmtree(drafts, ignore_errors=True)
        self._write_json(f"{name}.json", {"job": self._digest, "entry": entry})
        return entry

    def strangers(self, names: set[str]) -> list[str]:
        """Returns files that end as the shards do, and receipts, of none of them."""
        endings = {Path(name).suffix for name in names}
        files = [p.name for p in self.path.iterdir() if p.suffix in endings]
        receipts = [p.name.removesuffix(".json") for p in self._hidden.glob("*.*.json")]
        return sorted({*files, *receipts} - names)

    def finish(self) -> None:
        """Removes receipts and drafts."""
        shutil.rmtree(self._hidden, ignore_errors=True)

    def remove(self) -> None:
        """Removes the shards that have a receipt or are known, and `finish`es."""
        receipts = [p.name.removesuffix(".json") for p in self._hidden.glob("*.*.json")]
        for name in (*receipts, *self._known):
            # Only the last part of a name, so that nothing outside is removed.
            (self.path / Path(name).name).unlink(missing_ok=True)
        self.finish()

    @property
    def _hidden(self) -> Path:
        return self.path / _HIDDEN

    def _has_others(self) -> bool:
        try:
            return any(path.name != _HIDDEN for path in self.path.iterdir())
        except FileNotFoundError:
            return False

    def _read_job(self) -> dict[str, Any] | None:
        path = self._hidden / _JOB
        try:
            content = json.loads(path.read_bytes())
            return {"facts": dict(content["facts"]), _COUNT: content[_COUNT]}
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ClipinError(
                f"{path} is damaged: remove it; {self._remedy}"
            ) from error

    def _write_json(self, name: str, content: Any) -> None:
        draft = self._hidden / f"{name}.{uuid.uuid4().hex}.tmp"
        draft.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        os.replace(draft, self._hidden / name)


def checksum(path: Path) -> str:
    """Returns the sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
