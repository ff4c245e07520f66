"""`clipin data check`: scans the data of a config and reports what to fix."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.source import Source
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.datatools.advice import Advice, advise
from clipin_jax.datatools.check_page import check_page
from clipin_jax.datatools.dataset_statistics import dataset_statistics
from clipin_jax.datatools.evaluation_scan import check_evaluations
from clipin_jax.datatools.record_scan import RecordReader, ScanResult, scan_records
from clipin_jax.datatools.record_views import make_record_views
from clipin_jax.datatools.scan_job import scan_in_parts
from clipin_jax.errors import DONE, REQUEUE, WRONG_INPUT, ClipinError
from clipin_jax.parts.run import How
from clipin_jax.storage import write_output

RECORDS = 10_000  # scanned by default
_EVERY = 10.0  # seconds between two lines of progress
_REASONS = 3  # reasons that the summary shows


def check(
    config: ConfigDict,
    *,
    records: int = RECORDS,
    output: Path | None = None,
    json_file: Path | None = None,
    folder: Path | None = None,
    how: How = How(),  # noqa: B008
    print_line: Callable[[str], None] = print,
) -> int:
    """Scans the training data of a config; prints statistics and advice.

    Of evaluations only the images are read, since one that cannot be ends them.

    Args:
      config: any config; only its data, evals, batch size and name are used.
      records: how many to read, spread evenly over the source; 0 for all.
      output: writes an HTML page with more statistics, and samples of training.
      json_file: writes the statistics as JSON.
      folder: keeps the figures of parts; None to keep none.
      how: by this process, in parts, or on Dask; all but the first need a folder.
      print_line: prints a line.

    Returns:
      0, 78 if training on this data would end with an error, or 75 if it was stopped by
      Ctrl-C with the figures so far kept in the folder.

    Raises:
      ClipinError: the source or the tokenizer cannot be built, a file cannot be
        written, or parts are missing that should be merged.
    """
    if records < 0:
        raise ClipinError(
            f"--records is {records}: it must be a positive number, or 0 for all"
        )
    source = make_source(**config.data.source)
    threads = max(len(available_cpus()), config.data.threads)
    scan = _scan(
        config, source, records=records, threads=threads, folder=folder, how=how,
        print_line=print_line,
    )  # fmt: skip
    if not isinstance(scan, ScanResult):
        return scan
    statistics = dataset_statistics(scan, source, config)
    statistics["speed"]["threads"] = threads
    advice = advise(statistics, config)
    advice += check_evaluations(config, records=records, threads=threads)
    statistics["advice"] = [item._asdict() for item in advice]
    print_line(_summary(statistics, advice))
    if json_file:
        text = json.dumps(statistics, indent=2, ensure_ascii=False) + "\n"
        print_line(f"statistics: {write_output(json_file, text)}")
    if output:
        samples = make_record_views(config, source, caption_tokenizer(config.data))
        page = check_page(
            statistics, facts=facts(statistics), advice=advice, scan=scan,
            samples=samples, config=config,
        )  # fmt: skip
        print_line(f"page: {write_output(output, page)}")
    return WRONG_INPUT if any(item.stops for item in advice) else DONE


def _scan(
    config: ConfigDict,
    source: Source,
    *,
    records: int,
    threads: int,
    folder: Path | None,
    how: How,
    print_line: Callable[[str], None],
) -> ScanResult | int:
    """Returns the numbers of all records, or the exit code if there are not all."""
    if folder:
        try:
            scan = scan_in_parts(
                config, folder, records=records, threads=threads, how=how,
                print_line=print_line,
            )  # fmt: skip
        except KeyboardInterrupt:
            print_line("stopped: run the same command to resume")
            return REQUEUE
        return DONE if scan is None else scan
    if how != How(argv=how.argv):
        raise ClipinError("parts keep their figures in a folder: name it by --folder")
    reader = RecordReader(source, caption_tokenizer(config.data), config.data)
    return scan_records(
        source, reader, records=records, threads=threads, progress=_Progress()
    )


def facts(statistics: Mapping[str, Any]) -> dict[str, str]:
    """Returns the statistics as text, by subject."""
    total, scanned = statistics["records"], statistics["scanned"]
    complete = scanned == total
    part = "all scanned" if complete else f"{scanned:,} scanned, spread evenly"
    name = statistics["source"]["name"]
    lines = {"records": f"{total:,} from source {name!r}, {part}"}
    if statistics["classes"]:
        lines["classes"] = _classes(statistics["classes"])
    if statistics["images"]:
        lines |= _images(statistics["images"]) | _captions(statistics["captions"])
        lines["duplicates"] = _duplicates(statistics, complete=complete)
    lines["unusable"] = _unusable(statistics["unusable"])
    speed = statistics["speed"]
    lines["speed"] = (
        f"{speed['records_per_second']:,.0f} records/s, "
        f"{speed['megabytes_per_second']:,.0f} MB/s, read and decoded with "
        f"{speed['threads']} threads"
    )
    return lines


def _summary(statistics: Mapping[str, Any], advice: Sequence[Advice]) -> str:
    """Returns the statistics in a few lines, and a line for each problem."""
    to_fix = [f"{item.heading}: {item.text}" for item in advice]
    return "\n".join(
        [f"clipin: training data of {statistics['config']}"]
        + [f"  {name:<12}{text}" for name, text in facts(statistics).items()]
        + (to_fix or ["nothing to fix"])
    )


def _classes(classes: Mapping[str, int]) -> str:
    rarest = min(classes, key=lambda name: classes[name])
    commonest = max(classes, key=lambda name: classes[name])
    return (
        f"{len(classes)}, from {classes[rarest]:,} records ({rarest}) to "
        f"{classes[commonest]:,} ({commonest})"
    )


def _images(images: Mapping[str, Any]) -> dict[str, str]:
    kilobytes = images["bytes"]["median"] / 1000
    blank = images["one_colour"]
    return {
        "images": f"{_shares(images['formats'])}; median {kilobytes:,.0f} kB",
        "height": f"{_spread(images['height'])} pixels",
        "width": f"{_spread(images['width'])} pixels",
        "one colour": f"{blank['count']:,} = {blank['share']:.1%} of images, nearly",
    }


def _captions(captions: Mapping[str, Any]) -> dict[str, str]:
    each = captions["per_record"]
    number = f"{each['min']:.0f} to {each['max']:.0f}"
    if each["min"] == each["max"]:
        number = f"{each['min']:.0f}"
    kinds = _shares(captions["kinds"])
    tokens = captions["tokens"]
    return {
        "captions": f"{captions['count']:,}, {number} per record"
        + (f"; {kinds}" if kinds else ""),
        "tokens": f"{_spread(tokens)}, 95% up to {tokens['p95']:.0f}; "
        f"{captions['cut']:.1%} of captions are cut",
    }


def _duplicates(statistics: Mapping[str, Any], *, complete: bool) -> str:
    images, captions = statistics["images"], statistics["captions"]
    part = "" if complete else " (at least)"
    return (
        f"{images['duplicates']:.1%} of images, {captions['duplicates']:.1%} of "
        f"captions{part}; {captions['same_in_batch']:.1%} of a batch's pairs share a "
        "caption"
    )


def _unusable(unusable: Mapping[str, Any]) -> str:
    reasons = list(unusable["reasons"].items())[:_REASONS]
    listed = "".join(f"; {count} x {reason}" for reason, count in reasons)
    share = f"{unusable['share']:.2%}, {unusable['allowed']:.2%} allowed"
    return f"{unusable['count']:,} = {share}{listed}"


def _shares(shares: Mapping[str, float]) -> str:
    if len(shares) == 1:
        return f"all {next(iter(shares))}"
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items())


def _spread(values: Mapping[str, float]) -> str:
    if values["min"] == values["max"]:
        return f"{values['min']:.0f}"
    return f"{values['min']:.0f} to {values['max']:.0f}, median {values['median']:.0f}"


class _Progress:
    """Prints a line on stderr every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            print(f"clipin: {done:,} of {total:,} records", file=sys.stderr, flush=True)
