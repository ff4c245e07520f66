"""A scan of records as a job: each shard has the numbers of some records."""

from __future__ import annotations

import functools
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.datatools.record_scan import (
    ARRAYS,
    COUNTERS,
    RecordReader,
    ScanResult,
    UnusableRecord,
    count_scanned,
    scan_records,
)
from clipin_jax.errors import ClipinError
from clipin_jax.parts.folder import Entry
from clipin_jax.parts.job import Work
from clipin_jax.parts.run import How, run

_LEAST, _MOST_SHARDS = 1000, 1000  # records of a shard; shards, unless they are smaller
# Keys of `data` on which the numbers of a record depend.
_SETTINGS = (
    "tokenizer", "context_length", "long_captions", "caption_cleaning", "caption_words",
    "caption_weights", "max_pixels",
)  # fmt: skip


class Scan:
    """The numbers of a source's records, see `parts.job.Job`.

    Args:
      config: any config; only its data is used.
      records: how many are read, spread evenly; 0 for all.
      threads: that read.

    Raises:
      ClipinError: the source or the tokenizer cannot be built.
    """

    known: Mapping[str, Entry] = {}
    remedy = "choose another --folder"

    def __init__(self, config: ConfigDict, *, records: int, threads: int):
        data = config.data
        self._source = make_source(**data.source)
        self._reader = RecordReader(self._source, caption_tokenizer(data), data)
        self._records, self._threads = records, threads
        count = count_scanned(self._source, records)
        self._size = max(_LEAST, -(-count // _MOST_SHARDS))
        shards = -(-count // self._size)
        self.names = [f"scan-{n:05d}-of-{shards:05d}.npz" for n in range(shards)]
        settings = {key: data[key] for key in _SETTINGS}
        self.facts = {
            "format": "clipin_jax scan 1",
            "fingerprint": self._source.fingerprint,
            "records": count,
            "settings": ConfigDict(settings).to_json(),
        }

    def make(self, number: int, draft: Path) -> Entry:
        """Reads the records of a shard, and writes their numbers."""
        scan = scan_records(
            self._source,
            self._reader,
            records=self._records,
            threads=self._threads,
            progress=lambda *_: None,
            part=slice(number * self._size, (number + 1) * self._size),
        )
        columns = {name: np.asarray(getattr(scan, name)) for name in ARRAYS}
        np.savez(draft, allow_pickle=False, **columns)
        counters = {name: list(getattr(scan, name).items()) for name in COUNTERS}
        return counters | {
            "records": len(scan),
            "one_colour": scan.one_colour,
            "unusable": scan.unusable,
            "described": [record._asdict() for record in scan.described],
            "seconds": scan.seconds,
            "bad": [],  # they are counted, and stop nothing
        }

    def check_bad(self, bad: Sequence[Mapping[str, Any]]) -> None:
        """Does nothing: a scan is to count them all."""


def scan_in_parts(
    config: ConfigDict,
    folder: Path,
    *,
    records: int,
    threads: int,
    how: How,
    print_line: Callable[[str], None],
) -> ScanResult | None:
    """Returns the numbers of all records as one process reads them.

    Args:
      config: any config; only its data is used.
      folder: of the numbers; those of finished shards are not made again.
      records: how many are read, spread evenly; 0 for all.
      threads: that read in this process; workers elsewhere have one.
      how: by this process, in parts, or on Dask.
      print_line: prints a line.

    Returns:
      None if this was one part.

    Raises:
      ClipinError: the folder holds something else or cannot be written, or parts are
        missing that should be merged.
    """
    folder = folder.expanduser().absolute()
    job = Scan(config, records=records, threads=threads)
    open_job = functools.partial(
        Scan, config.copy_and_resolve_references(), records=records, threads=1
    )

    def report(name: str, entry: Entry) -> None:
        print_line(f"  {name}  {entry['records']:,} records")

    try:
        work = Work(folder, open_job)
        entries = run(work, job, how, report=report, print_line=print_line)
        if entries is None:
            return None
        scan = ScanResult()
        for name, entry in zip(job.names, entries, strict=True):
            scan.extend(_read(folder / name, entry))
    except OSError as error:
        raise ClipinError(
            f"cannot use {folder}: {error.strerror or error}; fix this and run the "
            "same command to resume"
        ) from error
    return scan


def _read(path: Path, entry: Entry) -> ScanResult:
    """Returns the numbers of a shard."""
    scan = ScanResult()
    with np.load(path, allow_pickle=False) as columns:
        for name in ARRAYS:
            values = array(getattr(scan, name).typecode)
            values.frombytes(columns[name].tobytes())
            setattr(scan, name, values)
    for name in COUNTERS:
        setattr(scan, name, Counter(dict(map(tuple, entry[name]))))
    scan.one_colour, scan.unusable = entry["one_colour"], entry["unusable"]
    scan.described = [UnusableRecord(**record) for record in entry["described"]]
    scan.seconds = entry["seconds"]
    return scan
