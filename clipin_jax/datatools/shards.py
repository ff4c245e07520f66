"""Writes a source's records to files of a fixed number each, and reads them again."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipin_jax.data import make_source
from clipin_jax.data.source import Source
from clipin_jax.datatools.scan import Bad
from clipin_jax.datatools.stored import Stored, read_stored
from clipin_jax.datatools.threads import in_order
from clipin_jax.datatools.writers import Format
from clipin_jax.errors import ClipinError

UNFINISHED = ".unfinished"  # the folder of files that are being written

_PROBED = 1000  # records among which one must be of use


class Shards:
    """The files of a source.

    Args:
      source: what is written.
      folder: where to.
      form: how.
      prefix: of the files' names.
      size: records of the source that go to a file.
      threads: that read and decode.
      max_pixels: of a picture.

    Attributes:
      names: of all files; their number is known before the first is written.
      remarks: what the source that reads them will not see.

    Raises:
      ClipinError: none of the first records can be used.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        form: Format,
        *,
        prefix: str,
        size: int,
        threads: int,
        max_pixels: int,
    ):
        self._source, self._folder, self._format = source, folder, form
        self._size, self._threads, self._max_pixels = size, threads, max_pixels
        count = -(-len(source) // size)
        self.names = [
            f"{prefix}-{n:05d}-of-{count:05d}.{form.ending}" for n in range(count)
        ]
        self._example = self._first_good()
        self._seen = {"kinds": True, "label": True}  # by the source that reads them
        self._arguments, self.remarks = self._plan()

    def write(self, number: int) -> tuple[dict[str, Any], list[Bad]]:
        """Writes a file, reads it again, and gives it its name.

        Returns:
          What the manifest says of it, and the records that were left out.

        Raises:
          ClipinError: none of its records can be used, or they have changed when they
            are read again.
          OSError: it cannot be written.
        """
        name, first = self.names[number], number * self._size
        # A folder of its own: what was read of an earlier attempt may still be open.
        parent = self._folder / UNFINISHED
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir()
        try:
            draft = Path(tempfile.mkdtemp(dir=parent)) / name
            indices = range(first, min(first + self._size, len(self._source)))
            entry, bad = self._write_draft(draft, indices)
            draft.replace(self._folder / name)
        finally:
            shutil.rmtree(parent, ignore_errors=True)
        return entry, bad

    def demand(self, records: int) -> None:
        """Raises ClipinError unless all files together have so many records."""
        found = len(make_source(**self.reading(self.names)))
        if found != records:
            raise ClipinError(
                f"{self._folder} has {found} records when it is read again, but "
                f"{records} were written"
            )

    def reading(self, names: list[str], folder: Path | None = None) -> dict[str, Any]:
        """The arguments of the source that reads these files."""
        pattern = names[0]
        if len(names) > 1:
            last = len(names) - 1
            pattern = pattern.replace("-00000-", f"-{{00000..{last:05d}}}-")
        files = str((folder or self._folder) / pattern)
        return {"name": self._format.source, "files": files, **self._arguments}

    def _first_good(self) -> Stored:
        bad = None
        for index in range(min(_PROBED, len(self._source))):
            found = read_stored(self._source, index, self._max_pixels)
            if isinstance(found, Stored):
                return found
            bad = bad or found
        why = f", the first because: {bad.reason}" if bad else ""
        raise ClipinError(
            f"none of the first {_PROBED:,} records can be used{why}; see "
            "`clipin data check`"
        )

    def _plan(self) -> tuple[dict[str, Any], list[str]]:
        """What else the source that reads the files is told, and what it cannot be."""
        form, label = self._format, self._example.label
        arguments: dict[str, Any] = dict(form.arguments)
        remarks = []
        if self._example.kinds and form.kinds is None:
            self._seen["kinds"] = False
            remarks.append(f"kinds of captions are kept, but {form.source} reads none")
        elif self._example.kinds:
            arguments |= form.kinds or {}
        reads = form.labels if isinstance(label, list) else form.label
        if label is not None and reads is None:
            self._seen["label"] = False
            remarks.append(f"lists of labels are kept, but {form.source} reads none")
        elif label is not None:
            arguments |= reads or {}
            if self._source.classes:
                arguments["classes"] = tuple(self._source.classes)
        return arguments, remarks

    def _write_draft(
        self, draft: Path, indices: range
    ) -> tuple[dict[str, Any], list[Bad]]:
        digests, bad = self._fill(draft, indices)
        if not digests:
            raise ClipinError(
                f"none of the records {indices[0]} to {indices[-1]} can be used, the "
                f"first because: {bad[0].reason}; take more --records-per-file, or "
                "leave them out of the source"
            )
        self._compare(draft, digests)
        with draft.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        entry = {"records": len(digests), "bytes": draft.stat().st_size}
        return entry | {"sha256": checksum, "seen": len(indices)}, bad

    def _fill(self, path: Path, indices: range) -> tuple[list[bytes], list[Bad]]:
        digests, bad = [], []
        writer = self._format.writer(path)
        try:
            found = self._read(self._source, indices)
            for index, record in zip(indices, found, strict=True):
                if isinstance(record, Bad):
                    bad.append(record)
                    continue
                self._demand_alike(index, record)
                writer.write(index, record)
                digests.append(record.digest(**self._seen))
        finally:
            writer.close()
        return digests, bad

    def _demand_alike(self, index: int, record: Stored) -> None:
        """A source reads labels of all records or of none."""
        if type(record.label) is not type(self._example.label):
            raise ClipinError(
                f"record {index}, {self._source.describe(index)}, has "
                f"{record.label if record.label is not None else 'no label'} where "
                f"others have {self._example.label}: convert the parts of such data "
                "one by one"
            )

    def _read(self, source: Source, indices: range) -> Iterator[Stored | Bad]:
        def read(index: int) -> Stored | Bad:
            return read_stored(source, index, self._max_pixels)

        return in_order(read, indices, self._threads)

    def _compare(self, path: Path, digests: list[bytes]) -> None:
        """Reads a file as training will, and demands that nothing has changed."""
        source = make_source(**self.reading([path.name], path.parent))
        if len(source) != len(digests):
            raise ClipinError(
                f"{path.name} has {len(source)} records when it is read again, but "
                f"{len(digests)} were written"
            )
        records = self._read(source, range(len(source)))
        for index, (record, digest) in enumerate(zip(records, digests, strict=True)):
            if isinstance(record, Bad):
                why = record.reason
            elif record.digest(**self._seen) != digest:
                why = "it is another"
            else:
                continue
            raise ClipinError(
                f"record {index} of {path.name} is not what was written when it is "
                f"read again: {why}; look at disk and memory"
            )
