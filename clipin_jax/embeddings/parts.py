"""Finished parts of a file of embeddings, from which a stopped command goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from clipin_jax import storage
from clipin_jax.embeddings.files import Origin, write_table
from clipin_jax.errors import ClipinError

_ORIGIN, _LOCK, _SHARES = "origin.json", ".lock", "shares.json"
_PART = re.compile(r"(\d+)-(\d+)\.parquet")


class Parts:
    """The folder `FILE.parts` beside a file, with the rows of consecutive records.

    A part appears whole. Its name has the first record, and the one after the last.

    Args:
      output: the file.
      origin: of the embeddings.
      first: record with which they begin.

    Attributes:
      paths: of the parts, in order.
      done: the record after their last one.

    Raises:
      ClipinError: the folder has parts of another origin.
    """

    def __init__(self, output: Path, origin: Origin, first: int = 0):
        self.folder = _folder(output)
        self._check_origin(origin)
        self.paths: list[Path] = []
        self.done = first
        self._find()

    def add(self, end: int, table: pa.Table) -> None:
        """Adds the rows of the records from `done` to `end`. Raises OSError."""
        path = self.folder / f"{self.done:012d}-{end:012d}.parquet"
        write_table(path, table)
        self.paths.append(path)
        self.done = end

    def share(self, count: int, batch_size: int) -> None:
        """Notes that machines share the records, each taking whole batches.

        Raises:
          ClipinError: the folder was begun with another number of either, or by one
            process.
        """
        # Look before the shares are read: another machine may write them, then parts.
        has_parts = any(_PART.fullmatch(path.name) for path in self.folder.iterdir())
        saved = self.shares()
        if saved is None and has_parts:
            raise ClipinError(
                f"{self.folder} was begun by one process: go on without --part and "
                "--on, or remove it to start over"
            )
        if saved is None:
            content = json.dumps({"count": count, "batch_size": batch_size})
            storage.write(str(self.folder / _SHARES), content.encode())
        elif saved != (count, batch_size):
            raise ClipinError(
                f"{self.folder} was begun in {saved[0]} parts with --batch-size "
                f"{saved[1]}, not {count} with {batch_size}: give --part I/{saved[0]} "
                f"--batch-size {saved[1]}, or remove it to start over"
            )

    def shares(self) -> tuple[int, int] | None:
        """Returns the number of shares and the batch size; None if there are none."""
        path = self.folder / _SHARES
        try:
            saved = json.loads(path.read_bytes())
            return saved["count"], saved["batch_size"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ClipinError(
                f"{path} is damaged: remove {self.folder} to start over"
            ) from error

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_origin(self, origin: Origin) -> None:
        path = self.folder / _ORIGIN
        try:
            saved = Origin(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            content = json.dumps(dataclasses.asdict(origin))
            storage.write(str(path), content.encode())  # whole, for other machines
            return
        except (ValueError, TypeError) as error:
            raise ClipinError(
                f"{path} is damaged: remove {self.folder} to start over"
            ) from error
        if difference := saved.difference(origin):
            raise ClipinError(
                f"{self.folder} has parts of {difference}: remove it to start over, or "
                "choose another --output"
            )

    def _find(self) -> None:
        """Finds the parts that follow one another."""
        ends = {}
        for path in self.folder.iterdir():
            if match := _PART.fullmatch(path.name):
                ends[int(match[1])] = int(match[2]), path
        while self.done in ends:
            end, path = ends[self.done]
            try:
                pq.read_metadata(path)
            except (OSError, pa.ArrowException):  # the machine stopped while it wrote
                return
            self.paths.append(path)
            self.done = end


@contextlib.contextmanager
def own_parts(output: Path, share: str = "") -> Iterator[None]:
    """Makes the folder of parts, and keeps other processes out of it, or of a share.

    Raises:
      ClipinError: another process writes the same file.
      OSError: the folder cannot be made.
    """
    folder = _folder(output)
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"{_LOCK}{share}", timeout=0):
            yield
    except Timeout as error:
        raise ClipinError(
            f"another process writes {output}{share}: wait for it, or choose another "
            "--output"
        ) from error


def _folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")
