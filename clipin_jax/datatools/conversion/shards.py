"""Writes the records of a source to files of a fixed size, and verifies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipin_jax.data import make_source
from clipin_jax.data.source import Source
from clipin_jax.datatools.conversion.encoded_record import EncodedRecord, read_encoded
from clipin_jax.datatools.conversion.record_writers import RecordFormat
from clipin_jax.datatools.parallel_map import map_in_order
from clipin_jax.datatools.record_scan import UnusableRecord
from clipin_jax.errors import ClipinError

_PROBED = 1000  # first records, one of which must be usable


class ShardWriter:
    """Writes the files of a source.

    Args:
      source: of the records.
      folder: of the files.
      record_format: of the files.
      prefix: of the files' names.
      size: source records per file.
      threads: number of threads that read and decode.
      max_pixels: bound on the pixels of an image.

    Attributes:
      names: of all files; known before the first one is written.
      remarks: content that is written, but that the source will not read.

    Raises:
      ClipinError: none of the first records can be used.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        record_format: RecordFormat,
        *,
        prefix: str,
        size: int,
        threads: int,
        max_pixels: int,
    ):
        self._source, self._folder, self._format = source, folder, record_format
        self._size, self._threads, self._max_pixels = size, threads, max_pixels
        count = -(-len(source) // size)
        self.names = [
            f"{prefix}-{n:05d}-of-{count:05d}.{record_format.extension}"
            for n in range(count)
        ]
        self._example = self._first_usable()
        # Whether the source reads kinds and labels back from the files.
        self._readable = {"kinds": True, "label": True}
        self._arguments, self.remarks = self._source_arguments()

    def write(self, number: int, draft: Path) -> tuple[int, int, list[UnusableRecord]]:
        """Writes a file and reads it again.

        Args:
          number: of the file.
          draft: path with the file's name, in a folder of its own.

        Returns:
          How many records it has, how many were read, and those that were left out.

        Raises:
          ClipinError: none of the records can be used, or they have changed when they
            are read again.
          OSError: the file cannot be written.
        """
        first = number * self._size
        indices = range(first, min(first + self._size, len(self._source)))
        digests, unusable = self._write_records(draft, indices)
        if not digests:
            raise ClipinError(
                f"none of the records {indices[0]} to {indices[-1]} can be used, the "
                f"first because: {unusable[0].reason}; raise --records-per-file, or "
                "leave them out of the source"
            )
        self._verify(draft, digests)
        return len(digests), len(indices), unusable

    def check_count(self, records: int) -> None:
        """Raises ClipinError unless all files together have this many records."""
        count = len(make_source(**self.source_config(self.names)))
        if count != records:
            raise ClipinError(
                f"{self._folder} has {count} records when it is read again, but "
                f"{records} were written"
            )

    def source_config(
        self, names: Sequence[str], folder: Path | None = None
    ) -> dict[str, Any]:
        """Returns the config of the source that reads these files."""
        pattern = names[0]
        if len(names) > 1:
            last = len(names) - 1
            pattern = pattern.replace("-00000-", f"-{{00000..{last:05d}}}-")
        files = str((folder or self._folder) / pattern)
        return {"name": self._format.source, "files": files, **self._arguments}

    def _first_usable(self) -> EncodedRecord:
        unusable = None
        for index in range(min(_PROBED, len(self._source))):
            record = read_encoded(self._source, index, self._max_pixels)
            if isinstance(record, EncodedRecord):
                return record
            unusable = unusable or record
        reason = f", the first because: {unusable.reason}" if unusable else ""
        raise ClipinError(
            f"none of the first {_PROBED:,} records can be used{reason}; see "
            "`clipin data check`"
        )

    def _source_arguments(self) -> tuple[dict[str, Any], list[str]]:
        """Returns arguments of the source that reads the files, and remarks."""
        format_, label = self._format, self._example.label
        arguments: dict[str, Any] = dict(format_.arguments)
        remarks = []
        if self._example.kinds and format_.kinds is None:
            self._readable["kinds"] = False
            remarks.append(
                f"kinds of captions are written, but {format_.source} does not read "
                "them"
            )
        elif self._example.kinds:
            arguments |= format_.kinds or {}
        label_arguments = format_.labels if isinstance(label, list) else format_.label
        if label is not None and label_arguments is None:
            self._readable["label"] = False
            remarks.append(
                f"lists of labels are written, but {format_.source} does not read them"
            )
        elif label is not None:
            arguments |= label_arguments or {}
            if self._source.classes:
                arguments["classes"] = tuple(self._source.classes)
        return arguments, remarks

    def _write_records(
        self, path: Path, indices: range
    ) -> tuple[list[bytes], list[UnusableRecord]]:
        """Returns the hashes of the records, and those that were left out."""
        digests, unusable = [], []
        writer = self._format.writer(path)
        try:
            records = self._read(self._source, indices)
            for index, record in zip(indices, records, strict=True):
                if isinstance(record, UnusableRecord):
                    unusable.append(record)
                    continue
                self._check_label(index, record)
                writer.write(index, record)
                digests.append(record.digest(**self._readable))
        finally:
            writer.close()
        return digests, unusable

    def _check_label(self, index: int, record: EncodedRecord) -> None:
        """Raises if the label has another form: a source reads one form of labels."""
        if type(record.label) is not type(self._example.label):
            raise ClipinError(
                f"record {index}, {self._source.describe(index)}, has "
                f"{record.label if record.label is not None else 'no label'} where "
                f"others have {self._example.label}: convert such parts of the data "
                "one by one"
            )

    def _read(
        self, source: Source, indices: range
    ) -> Iterator[EncodedRecord | UnusableRecord]:
        def read(index: int) -> EncodedRecord | UnusableRecord:
            return read_encoded(source, index, self._max_pixels)

        return map_in_order(read, indices, self._threads)

    def _verify(self, path: Path, digests: Sequence[bytes]) -> None:
        """Reads a file as training does; raises if a record differs."""
        source = make_source(**self.source_config([path.name], path.parent))
        if len(source) != len(digests):
            raise ClipinError(
                f"{path.name} has {len(source)} records when it is read again, but "
                f"{len(digests)} were written"
            )
        records = self._read(source, range(len(source)))
        for index, (record, digest) in enumerate(zip(records, digests, strict=True)):
            if isinstance(record, UnusableRecord):
                reason = record.reason
            elif record.digest(**self._readable) != digest:
                reason = "its content differs"
            else:
                continue
            raise ClipinError(
                f"record {index} of {path.name} is not what was written when it is "
                f"read again: {reason}; check disk and memory"
            )
