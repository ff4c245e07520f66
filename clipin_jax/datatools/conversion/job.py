"""A conversion as a job: each file of records is a shard."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.datatools.conversion.manifest import SAME, Manifest
from clipin_jax.datatools.conversion.record_writers import FORMATS
from clipin_jax.datatools.conversion.shards import ShardWriter
from clipin_jax.errors import ClipinError
from clipin_jax.parts.folder import Entry
from clipin_jax.parts.job import Work


class Conversion:
    """The files of a source, see `parts.job.Job`.

    Args:
      config: any config; only its data is used.
      folder: of the files.
      to: format of the files, a name of `FORMATS`.
      size: source records for each file.
      threads: that read and decode.
      overwrite: whether an earlier conversion in the folder does not count.

    Attributes:
      source: of the records.
      writer: of the files.
      manifest: of the folder.

    Raises:
      ClipinError: the source cannot be built, none of its first records can be used, or
        the folder has another conversion.
    """

    remedy = "choose another folder, or --overwrite"

    def __init__(
        self,
        config: ConfigDict,
        folder: Path,
        *,
        to: str,
        size: int,
        threads: int,
        overwrite: bool = False,
    ):
        self.source = make_source(**config.data.source)
        self._most = config.data.max_bad_fraction
        split = str(config.data.source.get("split", ""))
        self.writer = ShardWriter(
            self.source,
            folder,
            FORMATS[to],
            prefix=split if re.fullmatch(r"\w+", split) else "train",
            size=size,
            threads=threads,
            max_pixels=config.data.max_pixels,
        )
        self.names = self.writer.names
        facts = {
            "records": 0,
            "classes": list(self.source.classes),
            "fingerprint": self.source.fingerprint,
            "to": to,
            "records_per_file": size,
            "source": config.data.source.to_dict(),
        }
        self.manifest = Manifest(folder, facts)
        self.facts = {key: self.manifest.facts[key] for key in SAME}
        self.known = {} if overwrite else self.manifest.entries()

    def make(self, number: int, draft: Path) -> Entry:
        """Writes a file, and reads it again."""
        count, seen, unusable = self.writer.write(number, draft)
        bad = [record._asdict() for record in unusable]
        return {"records": count, "seen": seen, "bad": bad}

    def check_bad(self, bad: Sequence[Mapping[str, Any]]) -> None:
        """Raises if these are more than all records together may have."""
        total = len(self.source)
        if len(bad) > self._most * total:
            example = bad[0]
            raise ClipinError(
                f"{len(bad)} of {total} records cannot be used, more than "
                f"data.max_bad_fraction {self._most} allows. One of them: record "
                f"{example['index']}, {example['where']}: {example['reason']}. Fix the "
                "data, or raise the limit and run the command again to resume"
            )


def conversion_work(
    config: ConfigDict,
    folder: str | Path,
    *,
    to: str = "array_record",
    records_per_file: int = 10_000,
) -> Work:
    """Returns a conversion that other processes open, with one thread in each.

    Args:
      config: any config; only its data is used.
      folder: of the files, on a disk that all machines share.
      to: "array_record" or "webdataset".
      records_per_file: source records for each file.
    """
    folder = Path(folder).expanduser().absolute()
    open_job = functools.partial(
        Conversion, config.copy_and_resolve_references(), folder, to=to,
        size=records_per_file, threads=1,
    )  # fmt: skip
    return Work(folder, open_job)
