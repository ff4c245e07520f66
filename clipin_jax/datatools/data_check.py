"""The result of a check of training data: statistics, advice, a page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.source import Source
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.datatools import check_page
from clipin_jax.datatools.advice import Advice, advise
from clipin_jax.datatools.dataset_statistics import dataset_statistics
from clipin_jax.datatools.evaluation_scan import check_evaluations
from clipin_jax.datatools.record_scan import RecordReader, ScanResult, scan_records
from clipin_jax.datatools.record_views import make_record_views
from clipin_jax.errors import ClipinError
from clipin_jax.report.components import fold
from clipin_jax.report.document import document
from clipin_jax.report.fragment import fragment
from clipin_jax.report.markup import Markup, tag
from clipin_jax.storage import write_output

RECORDS = 10_000  # scanned by default
_EVERY = 10.0  # seconds between two lines of progress
_REASONS = 3  # reasons that the summary shows


@dataclass(frozen=True)
class DataCheck:
    """What was found in the training data of a config.

    Attributes:
      config: the config to train with.
      statistics: see `dataset_statistics`, with the advice.
      advice: problems to fix.
      scan: the numbers of all records.
      source, tokenizer: of the config.
    """

    config: ConfigDict
    statistics: Mapping[str, Any]
    advice: list[Advice]
    scan: ScanResult
    source: Source
    tokenizer: Tokenizer

    @property
    def stops(self) -> bool:
        """Whether training on this data would end with an error."""
        return any(item.stops for item in self.advice)

    def summary(self) -> str:
        """Returns the statistics in a few lines, and a line for each problem."""
        to_fix = [f"{item.heading}: {item.text}" for item in self.advice]
        lines = facts(self.statistics).items()
        return "\n".join(
            [f"clipin: training data of {self.config.name}"]
            + [f"  {name:<12}{text}" for name, text in lines]
            + (to_fix or ["nothing to fix"])
        )

    def save(self, path: str | Path) -> Path:
        """Writes the HTML page with samples, by path or URL; returns the path.

        Raises:
          ClipinError: it cannot be written.
        """
        title = f"Training data of {self.config.name}"
        lead = check_page.advice_box(self.advice)
        sections = self._sections()
        page = document(title, sections, lead=lead, style=check_page.STYLE)
        return write_output(path, page)

    def _sections(self) -> dict[str, Markup | None]:
        return check_page.check_sections(
            self.statistics,
            facts=facts(self.statistics),
            scan=self.scan,
            samples=make_record_views(self.config, self.source, self.tokenizer),
            config=self.config,
        )

    def _repr_html_(self) -> str:
        statistics, *others = self._sections().items()
        folds = (fold(name, part) for name, part in others if part is not None)
        return fragment(
            tag("b", f"Training data of {self.config.name}"),
            check_page.advice_box(self.advice),
            statistics[1],
            *folds,
            style=check_page.STYLE,
        )

    def __repr__(self) -> str:
        return self.summary()


def inspect_data(config: ConfigDict, *, records: int = RECORDS) -> DataCheck:
    """Reads records of a config, and judges them.

    Args:
      config: only its data, evals, batch size and name are used.
      records: how many to read, spread evenly over the source; 0 for all.

    Raises:
      ClipinError: the source or the tokenizer cannot be built.
    """
    if records < 0:
        raise ClipinError(
            f"--records is {records}: it must be a positive number, or 0 for all"
        )
    source = make_source(**config.data.source)
    tokenizer = caption_tokenizer(config.data)
    threads = max(len(available_cpus()), config.data.threads)
    reader = RecordReader(source, tokenizer, config.data)
    scan = scan_records(
        source, reader, records=records, threads=threads, progress=_Progress()
    )
    statistics = dataset_statistics(scan, source, config)
    statistics["speed"]["threads"] = threads
    advice = advise(statistics, config)
    advice += check_evaluations(config, records=records, threads=threads)
    statistics["advice"] = [item._asdict() for item in advice]
    return DataCheck(config, statistics, advice, scan, source, tokenizer)


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
