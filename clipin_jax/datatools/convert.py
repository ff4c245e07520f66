"""`clipin data convert`: writes the records of any source as sharded files.

Each file is written under a temporary name, read again, compared record by record, and
renamed. An interrupted conversion resumes with the first file that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.source import Source, mixture_parts
from clipin_jax.datatools.conversion_manifest import FORMAT, ConversionManifest
from clipin_jax.datatools.record_writers import FORMATS
from clipin_jax.datatools.shards import ShardWriter
from clipin_jax.errors import DONE, REQUEUE, ClipinError, check_choice
from clipin_jax.storage import is_remote

_TOLERATED = 100  # records read before the share of unusable ones is checked


def convert(
    config: ConfigDict,
    out: str | Path,
    *,
    to: str = "array_record",
    records_per_file: int = 10_000,
    overwrite: bool = False,
    print_line: Callable[[str], None] = print,
) -> int:
    """Writes the records of a config's training source to files.

    Encoded images keep their bytes, others become PNG. All captions, their kinds and
    labels are kept. Unusable records, such as those whose image cannot be decoded, are
    left out and listed in `manifest.json`.

    Args:
      config: any config; only its data is used.
      out: a local folder; an interrupted conversion there is resumed.
      to: "array_record" or "webdataset".
      records_per_file: source records for each file, including unusable ones.
      overwrite: whether to start again in a folder that holds files.
      print_line: prints a line.

    Returns:
      0, or 75 if it was stopped by Ctrl-C.

    Raises:
      ClipinError: the source cannot be built; the folder holds the records of another
        one or cannot be written; more records are unusable than
        `data.max_bad_fraction` allows; or a file differs from what was written.
    """
    check_choice("--to", to, tuple(FORMATS))
    if records_per_file < 1:
        raise ClipinError(
            f"--records-per-file is {records_per_file}: it must be at least 1"
        )
    folder = _local_folder(out)
    source = make_source(**config.data.source)
    try:
        shards = _shard_writer(config, source, folder, to=to, size=records_per_file)
        facts = _facts(config, source, to=to, size=records_per_file)
        manifest = ConversionManifest(folder, facts, overwrite)
        counts = f"{len(source):,} records to {len(shards.names)} files"
        print_line(f"clipin: {counts} in {folder}")
        for remark in (*_mixture_remarks(source), *shards.remarks):
            print_line(remark)
        _write_missing(shards, manifest, config.data.max_bad_fraction, print_line)
    except KeyboardInterrupt:
        print_line("stopped: run the same command to resume")
        return REQUEUE
    except OSError as error:
        raise ClipinError(
            f"cannot write to {out}: {error.strerror or error}; fix this and run the "
            "same command to resume"
        ) from error
    print_line(
        f"{manifest.count_records():,} records written and read again, "
        f"{len(manifest.bad):,} left out. Read them with\n"
        f"{source_code(shards.source_config(shards.names))}"
    )
    return DONE


def source_code(source: dict[str, Any]) -> str:
    """Returns a source's config as Python."""
    lines = (f"    {key}={value!r}," for key, value in source.items())
    return "\n".join(["source=dict(", *lines, ")"])


def _facts(config: ConfigDict, source: Source, *, to: str, size: int) -> dict[str, Any]:
    """Returns the content of the manifest, apart from files and unusable records."""
    return {
        "format": FORMAT,
        "records": 0,
        "classes": list(source.classes),
        "fingerprint": source.fingerprint,
        "to": to,
        "records_per_file": size,
        "source": config.data.source.to_dict(),
    }


def _shard_writer(
    config: ConfigDict, source: Source, folder: Path, *, to: str, size: int
) -> ShardWriter:
    split = str(config.data.source.get("split", ""))
    return ShardWriter(
        source,
        folder,
        FORMATS[to],
        prefix=split if re.fullmatch(r"\w+", split) else "train",
        size=size,
        threads=max(len(available_cpus()), config.data.threads),
        max_pixels=config.data.max_pixels,
    )


def _write_missing(
    shards: ShardWriter,
    manifest: ConversionManifest,
    max_bad_fraction: float,
    print_line: Callable[[str], None],
) -> None:
    """Writes the files that are missing, then completes the manifest."""
    for number, name in enumerate(shards.names):
        if not manifest.is_written(name):
            entry, unusable = shards.write(number)
            manifest.add(name, entry, unusable)
            size = entry["bytes"] / 1e6
            print_line(f"  {name}  {entry['records']:,} records, {size:,.1f} MB")
        last = number == len(shards.names) - 1
        if last or manifest.count_seen() >= _TOLERATED:
            _check_share(manifest, max_bad_fraction)
    if not manifest.complete:
        shards.check_count(manifest.count_records())
        manifest.finish()


def _check_share(manifest: ConversionManifest, max_bad_fraction: float) -> None:
    """Raises if too many records are unusable."""
    bad, seen = manifest.bad, manifest.count_seen()
    if len(bad) > max_bad_fraction * seen:
        example = bad[0]
        raise ClipinError(
            f"{len(bad)} of {seen} records cannot be used, more than "
            f"data.max_bad_fraction {max_bad_fraction} allows. One of them: record "
            f"{example['index']}, {example['where']}: {example['reason']}. Fix the "
            "data, or raise the limit and run the command again to resume"
        )


def _local_folder(out: str | Path) -> Path:
    if is_remote(str(out)):  # as text: a Path joins the two slashes
        raise ClipinError(
            f"{out} is not a local folder: write to one, and copy it afterwards"
        )
    folder = Path(out).expanduser().absolute()
    if re.search(r"[*?\[{]", str(folder)):
        raise ClipinError(
            f"{folder} has one of the characters * ? [ {{, which are wildcards where "
            "files are read: choose another folder"
        )
    return folder


def _mixture_remarks(source: Source) -> list[str]:
    several = len(mixture_parts(source)) > 1
    return ["the weights of the mixture's sources are not written"] if several else []
