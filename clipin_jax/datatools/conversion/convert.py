"""`clipin data convert`: writes the records of any source as sharded files.

Each file is written as a draft, read again, compared record by record, and renamed. An
interrupted conversion resumes with the files that are missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.source import Source, mixture_parts
from clipin_jax.datatools.conversion.job import Conversion, conversion_work
from clipin_jax.datatools.conversion.record_writers import FORMATS
from clipin_jax.errors import DONE, REQUEUE, ClipinError, check_choice
from clipin_jax.parts.folder import Entry
from clipin_jax.parts.job import open_folder
from clipin_jax.parts.run import How, run
from clipin_jax.storage import is_remote


def convert(
    config: ConfigDict,
    out: str | Path,
    *,
    to: str = "array_record",
    records_per_file: int = 10_000,
    overwrite: bool = False,
    how: How = How(),
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
      how: by this process, in parts, or on Dask.
      print_line: prints a line.

    Returns:
      0, or 75 if it was stopped by Ctrl-C.

    Raises:
      ClipinError: the source cannot be built; the folder holds the records of another
        one or cannot be written; more records are unusable than
        `data.max_bad_fraction` allows; a file differs from what was written; or parts
        are missing that should be merged.
    """
    check_choice("--to", to, tuple(FORMATS))
    if records_per_file < 1:
        raise ClipinError(
            f"--records-per-file is {records_per_file}: it must be at least 1"
        )
    if overwrite and (how.part or how.merge):
        raise ClipinError(
            "--overwrite would remove the files of other parts: start with an empty "
            "folder instead"
        )
    folder = _local_folder(out)
    try:
        return _convert(
            config, folder, to=to, size=records_per_file, overwrite=overwrite, how=how,
            print_line=print_line,
        )  # fmt: skip
    except KeyboardInterrupt:
        print_line("stopped: run the same command to resume")
        return REQUEUE
    except OSError as error:
        raise ClipinError(
            f"cannot write to {out}: {error.strerror or error}; fix this and run the "
            "same command to resume"
        ) from error


def _convert(
    config: ConfigDict,
    folder: Path,
    *,
    to: str,
    size: int,
    overwrite: bool,
    how: How,
    print_line: Callable[[str], None],
) -> int:
    threads = max(len(available_cpus()), config.data.threads)
    job = Conversion(
        config, folder, to=to, size=size, threads=threads, overwrite=overwrite
    )
    if overwrite:
        _start_over(folder, job)
    counts = f"{len(job.source):,} records to {len(job.names)} files"
    print_line(f"clipin: {counts} in {folder}")
    for remark in (*_mixture_remarks(job.source), *job.writer.remarks):
        print_line(remark)

    def report(name: str, entry: Entry) -> None:
        megabytes = entry["bytes"] / 1e6
        print_line(f"  {name}  {entry['records']:,} records, {megabytes:,.1f} MB")

    work = conversion_work(config, folder, to=to, records_per_file=size)
    entries = run(work, job, how, report=report, print_line=print_line)
    if entries is None:
        return DONE
    _finish(folder, job, entries)
    records = sum(entry["records"] for entry in entries)
    left_out = sum(len(entry["bad"]) for entry in entries)
    print_line(
        f"{records:,} records written and read again, {left_out:,} left out. Read them "
        f"with\n{source_code(job.writer.source_config(job.names))}"
    )
    return DONE


def source_code(source: dict[str, Any]) -> str:
    """Returns a source's config as Python."""
    lines = (f"    {key}={value!r}," for key, value in source.items())
    return "\n".join(["source=dict(", *lines, ")"])


def _finish(folder: Path, job: Conversion, entries: list[Entry]) -> None:
    """Writes the manifest once all files are there."""
    if dict(zip(job.names, entries, strict=True)) != job.known:
        job.writer.check_count(sum(entry["records"] for entry in entries))
        job.manifest.write(job.names, entries)
    open_folder(folder, job).finish()


def _start_over(folder: Path, job: Conversion) -> None:
    job.manifest.remove()
    files = open_folder(folder, job)
    files.remove()
    files.begin(beside_others=True)


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
