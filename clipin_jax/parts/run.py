"""Runs a job here, as one of several parts, or on Dask; and merges finished parts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipin_jax.errors import ClipinError, first_few
from clipin_jax.parts.folder import Entry, ShardFolder, checksum
from clipin_jax.parts.job import Job, Work, open_folder
from clipin_jax.parts.part import Part, part_of

_DASK, _CLUSTERS = "dask", ("slurm", "kubernetes")
_READERS = 8  # threads that compute checksums

Made = Generator[tuple[int, Entry], None, None]
Report = Callable[[str, Entry], None]  # is called with each shard that was made now


@dataclasses.dataclass(frozen=True)
class How:
    """How a job is run: by default all of it, by this process.

    Attributes:
      part: runs one part only.
      merge: joins the parts, which are all finished.
      on: "dask", or "dask:" with an address, "slurm" or "kubernetes".
      workers: of a cluster that is started; None for its own number.
      argv: of the command, for messages.
    """

    part: Part | None = None
    merge: bool = False
    on: str = ""
    workers: int | None = None
    argv: tuple[str, ...] = ()

    def command(self, *options: object) -> str:
        """Returns the command with other options of this kind."""
        words = iter(self.argv)
        kept = []
        for word in words:
            if word == "--part":
                next(words, None)
            elif word != "--merge" and not word.startswith("--part="):
                kept.append(word)
        start = ["clipin", *kept] if kept else []
        return shlex.join([*start, *map(str, options)])


def check_place(on: str) -> None:
    """Checks the option `--on`, without a look at the cluster. Raises ClipinError."""
    kind, _, place = on.partition(":")
    is_place = place in _CLUSTERS or re.fullmatch(r"(\w+://)?\S+:\d+", place)
    if kind != _DASK or not (is_place or on == _DASK):
        raise ClipinError(
            f"--on is {on!r}: give {_DASK}, {_DASK}:tcp://HOST:8786, {_DASK}:slurm or "
            f"{_DASK}:kubernetes"
        )


def run(
    work: Work, job: Job, how: How, *, report: Report, print_line: Callable[[str], None]
) -> list[Entry] | None:
    """Makes the shards that are missing.

    Args:
      work: what other machines open.
      job: the same one, opened in this process.
      how: which shards, and where.
      report: is called with each shard that was made now.
      print_line: prints a line.

    Returns:
      The entries of all shards in order; None if this was one part.

    Raises:
      ClipinError: a shard cannot be made, too many records are bad, parts are missing
        or damaged, or the folder holds something else.
      OSError: a file cannot be read or written.
    """
    folder = open_folder(work.folder, job)
    if how.merge:
        return _merged(folder, job, how)
    folder.begin(how.part.count if how.part else None)
    if how.part is None:
        numbers = range(len(job.names))
        done = _done(folder, job, numbers)
        missing = [number for number in numbers if number not in done]
        made = _make_on(how, work, missing) if how.on else _make(folder, job, missing)
        report = _no_report if how.on else report  # there a bar shows the progress
        return list(_collect(job, done, made, report).values())
    numbers = how.part.numbers(len(job.names))
    print_line(_about(how.part, numbers, len(job.names)))
    done = _done(folder, job, numbers)
    missing = [number for number in numbers if number not in done]
    _collect(job, done, _make(folder, job, missing), report)
    print_line(
        f"part {how.part} is done: {len(missing)} files made now, {len(done)} before; "
        f"when all parts are: {how.command('--merge')}"
    )
    return None


def _no_report(name: str, entry: Entry) -> None:
    """Reports nothing."""


def _about(part: Part, numbers: range, total: int) -> str:
    if not numbers:
        return f"part {part} has nothing to do: there are only {total} files"
    return f"part {part}: files {numbers[0] + 1} to {numbers[-1] + 1} of {total}"


def _done(folder: ShardFolder, job: Job, numbers: Iterable[int]) -> dict[int, Entry]:
    entries = ((number, folder.entry(job.names[number])) for number in numbers)
    return {number: entry for number, entry in entries if entry}


def _make(folder: ShardFolder, job: Job, numbers: Sequence[int]) -> Made:
    for number in numbers:
        write = functools.partial(job.make, number)
        yield number, folder.make(job.names[number], write)


def _make_on(how: How, work: Work, numbers: Sequence[int]) -> Made:
    from clipin_jax.parts.dask_runner import make_on_dask

    return make_on_dask(work, numbers, how.on, how.workers)


def _collect(
    job: Job,
    done: dict[int, Entry],
    made: Made,
    report: Report,
) -> dict[int, Entry]:
    """Returns all entries by number; stops when too many records are bad."""
    bad = [record for entry in done.values() for record in entry["bad"]]
    entries = dict(done)
    if done:
        job.check_bad(bad)
    with contextlib.closing(made):  # ends a cluster before an error is shown
        for number, entry in made:
            entries[number] = entry
            report(job.names[number], entry)
            bad += entry["bad"]
            job.check_bad(bad)
    return dict(sorted(entries.items()))


def _merged(folder: ShardFolder, job: Job, how: How) -> list[Entry]:
    """Returns the entries of all shards, whose bytes are those that were written."""
    if not job.known and not folder.is_begun():
        raise ClipinError(
            f"{folder.path} has no parts: make them first, as by "
            f"{how.command('--part', '1/16')}"
        )
    if not job.known:
        folder.check_begun()
    receipts = {name: folder.receipt(name) for name in job.names}
    _check_missing(folder, job, how, [n for n, entry in receipts.items() if not entry])
    if strangers := folder.strangers(set(job.names)):
        raise ClipinError(
            f"{folder.path} has files that do not belong to the {len(job.names)} of "
            f"this job: {first_few(strangers)}; remove them"
        )
    entries = {name: entry for name, entry in receipts.items() if entry}
    _check_damaged(folder, job, how, entries)
    bad = [record for entry in entries.values() for record in entry["bad"]]
    job.check_bad(bad)
    return list(entries.values())


def _check_missing(folder: ShardFolder, job: Job, how: How, names: list[str]) -> None:
    if names:
        raise ClipinError(
            f"{len(names)} of {len(job.names)} files are missing in {folder.path}, "
            f"{_remedy(folder, job, how, names)}"
        )


def _check_damaged(
    folder: ShardFolder, job: Job, how: How, entries: dict[str, Entry]
) -> None:
    def is_damaged(name: str) -> bool:
        path, entry = folder.path / name, entries[name]
        try:
            if path.stat().st_size != entry["bytes"]:
                return True
            return checksum(path) != entry["sha256"]
        except FileNotFoundError:
            return True

    with ThreadPoolExecutor(_READERS) as pool:
        damaged = list(pool.map(is_damaged, entries))
    if names := [n for n, wrong in zip(entries, damaged, strict=True) if wrong]:
        raise ClipinError(
            f"{len(names)} files are not as they were written, {first_few(names)}: "
            f"remove them from {folder.path}; then {_remedy(folder, job, how, names)}"
        )


def _remedy(folder: ShardFolder, job: Job, how: How, names: list[str]) -> str:
    """Returns which parts make some shards, and by which commands."""
    count = folder.count_parts()
    if not count:
        return f"{first_few(names)}: run {how.command()}"
    lacking, total = set(names), len(job.names)
    numbers = (n for n, name in enumerate(job.names) if name in lacking)
    parts = sorted({part_of(number, total, count) for number in numbers})
    listed = first_few([str(part) for part in parts])
    return f"of the parts {listed}: run {how.command('--part', parts[0])}" + (
        f", and so on for {len(parts)} parts" if len(parts) > 1 else ""
    )
