"""`clipin data check`: is the training data what it should be?"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.datatools.check_page import write_page
from clipin_jax.datatools.findings import Advice, advise, figures
from clipin_jax.datatools.samples import make_samples
from clipin_jax.datatools.scan import Reader, scan
from clipin_jax.datatools.threads import count_cores
from clipin_jax.errors import ClipinError

RECORDS = 10_000  # looked at, unless told otherwise
_EVERY = 10.0  # seconds between two words on progress


def check(
    config: ConfigDict,
    records: int = RECORDS,
    output: Path | None = None,
    json_file: Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Looks at the training data of a config and says what should be mended.

    Args:
      config: any config; nothing but its data, batch size and name counts.
      records: how many to look at, spread evenly over the source; 0: all.
      output: an HTML page with more of it, and samples as training sees them.
      json_file: the figures as JSON.
      say: where the lines go.

    Returns:
      0, or 1 where training on this data would end with an error.

    Raises:
      ClipinError: the source or the tokenizer cannot be made, or a file not written.
    """
    if records < 0:
        raise ClipinError(f"--records is {records}; it must be a number, or 0 for all")
    source = make_source(**config.data.source)
    tokenizer = caption_tokenizer(config.data)
    threads = max(count_cores(), config.data.threads)
    reader = Reader(source, tokenizer, config.data)
    found = scan(source, reader, records=records, threads=threads, progress=_Progress())
    numbers = figures(found, source, config)
    numbers["speed"]["threads"] = threads
    advice = advise(numbers, config)
    numbers["advice"] = [one._asdict() for one in advice]
    say(summary(numbers, advice))
    if json_file:
        _write(json_file, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
        say(f"figures: {json_file}")
    if output:
        samples = make_samples(config, source, tokenizer)
        page = write_page(numbers, facts(numbers), advice, found, samples, config)
        _write(output, page)
        say(f"page: {output}")
    return int(any(one.stops for one in advice))


def summary(found: dict[str, Any], advice: list[Advice]) -> str:
    """The figures in a few lines, and a line for each thing to mend."""
    lines = facts(found)
    said = [f"{one.head}: {one.text}" for one in advice]
    return "\n".join(
        [f"clipin: the training data of {found['config']}"]
        + [f"  {name:<12}{text}" for name, text in lines.items()]
        + (said or ["fine: nothing to mend was found"])
    )


def facts(found: dict[str, Any]) -> dict[str, str]:
    """The figures in words, by what they are about."""
    bad, speed = found["bad"], found["speed"]
    looked, total = found["looked_at"], found["records"]
    whole = looked == total
    part = "all looked at" if whole else f"{looked:,} looked at, spread evenly"
    lines = {"records": f"{total:,} from source {found['source']['name']!r}, {part}"}
    if found["classes"]:
        lines["classes"] = _classes(found["classes"])
    if found["pictures"]:
        lines |= _pictures(found["pictures"]) | _captions(found["captions"])
        lines["repeats"] = _repeats(found, part="" if whole else " (at least)")
    why = "".join(f"; {n} x {reason}" for reason, n in list(bad["reasons"].items())[:3])
    share = f"{bad['share']:.2%}, {bad['allowed']:.2%} allowed"
    lines["bad"] = f"{bad['count']:,} = {share}{why}"
    lines["speed"] = (
        f"{speed['records_per_second']:,.0f} records/s, "
        f"{speed['megabytes_per_second']:,.0f} MB/s, read and decoded by "
        f"{speed['threads']} threads"
    )
    return lines


def _classes(classes: dict[str, int]) -> str:
    rarest = min(classes, key=lambda name: classes[name])
    commonest = max(classes, key=lambda name: classes[name])
    return (
        f"{len(classes)}, from {classes[rarest]:,} records ({rarest}) to "
        f"{classes[commonest]:,} ({commonest})"
    )


def _pictures(pictures: dict[str, Any]) -> dict[str, str]:
    height, width = pictures["height"], pictures["width"]
    formats = _shares(pictures["formats"])
    kilobytes = pictures["bytes"]["median"] / 1000
    return {
        "pictures": f"{formats}; median {kilobytes:,.0f} kB",
        "height": f"{_spread(height)} pixels",
        "width": f"{_spread(width)} pixels",
    }


def _captions(captions: dict[str, Any]) -> dict[str, str]:
    each = captions["per_record"]
    number = f"{each['min']:.0f} to {each['max']:.0f}"
    if each["min"] == each["max"]:
        number = f"{each['min']:.0f}"
    kinds = _shares(captions["kinds"])
    tokens = captions["tokens"]
    return {
        "captions": f"{captions['count']:,}, {number} a record"
        + (f"; {kinds}" if kinds else ""),
        "tokens": f"{_spread(tokens)}, 95% up to {tokens['p95']:.0f}; "
        f"{captions['cut']:.1%} of captions are cut",
    }


def _repeats(found: dict[str, Any], part: str) -> str:
    return (
        f"{found['pictures']['duplicates']:.1%} of pictures, "
        f"{found['captions']['duplicates']:.1%} of captions{part}; "
        f"{found['captions']['same_in_batch']:.1%} of a batch's pairs share a caption"
    )


def _shares(shares: dict[str, float]) -> str:
    if len(shares) == 1:
        return f"all {next(iter(shares))}"
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items())


def _spread(values: dict[str, float]) -> str:
    if values["min"] == values["max"]:
        return f"{values['min']:.0f}"
    return f"{values['min']:.0f} to {values['max']:.0f}, median {values['median']:.0f}"


class _Progress:
    """A word on stderr every few seconds, so that nobody takes it for a hang."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            print(f"clipin: {done:,} of {total:,} records", file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClipinError(f"can not write {path}: {error.strerror}") from error
