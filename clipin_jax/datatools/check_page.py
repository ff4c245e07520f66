"""Sections about training data: statistics, histograms, faults and samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.datatools.advice import Advice
from clipin_jax.datatools.record_scan import ScanResult
from clipin_jax.datatools.record_views import RecordViews
from clipin_jax.report import images
from clipin_jax.report.charts.histogram import histogram
from clipin_jax.report.components import chart_grid, fold, note
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.tables import scrolling_table, table

_SIDE, _TOKENS = "shorter side, pixels", "tokens per caption"
_THUMBNAIL = 320  # pixels on the longer side of an original
_MOST_CLASSES = 200  # classes in the table

STYLE = """
.facts th { width: 8rem; color: var(--soft) }
.advice { margin: 1rem 0; padding: .1rem 1rem; background: var(--card);
  border: 1px solid var(--rule); border-left: 4px solid var(--good);
  border-radius: 8px }
.advice.problems { border-left-color: var(--bad) }
.advice p { margin: .6rem 0 }
.samples { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
.samples .views { align-items: flex-start }
.samples figcaption { margin-top: .15rem; color: var(--soft); font-size: .72rem }
.wide.counts th:first-child { width: 6rem }
.wide td { white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
"""


def check_sections(
    statistics: Mapping[str, Any],
    *,
    facts: Mapping[str, str],
    scan: ScanResult,
    samples: Sequence[RecordViews] | str,
    config: ConfigDict,
) -> dict[str, Markup | None]:
    """Returns heading -> content; None is left out.

    Args:
      statistics: see `dataset_statistics`.
      facts: the statistics as text, by subject.
      scan: the numbers of all records.
      samples: records to show, or the reason why there are none.
      config: the config to train with.
    """
    return {
        "Statistics": _facts(facts),
        "Distributions": _histograms(scan, config) if scan.index else None,
        "Unusable records": _unusable(statistics["unusable"]),
        "Most frequent captions": _frequent(statistics["captions"]),
        "Classes": _classes(statistics["classes"]),
        "Samples": _samples(samples, config),
    }


def advice_box(advice: Sequence[Advice]) -> Markup:
    """Returns the problems to fix, to stand before the sections."""
    if not advice:
        return tag("div", tag("p", "Nothing to fix."), class_="advice")
    lines = (tag("p", tag("b", f"{item.heading}: "), item.text) for item in advice)
    return tag("div", *lines, class_="advice problems")


def _facts(facts: Mapping[str, str]) -> Markup:
    rows = (
        tag("tr", tag("th", name, scope="row"), tag("td", text))
        for name, text in facts.items()
    )
    return scrolling_table(tag("tbody", *rows), class_="facts wide")


def _histograms(scan: ScanResult, config: ConfigDict) -> Markup | None:
    height, width = np.asarray(scan.height), np.asarray(scan.width)
    data = config.data
    marks = {_SIDE: min(data.image_size), _TOKENS: data.context_length}
    values = {
        _SIDE: np.minimum(height, width).astype(int),
        "width over height": width / height,
        "kilobytes per image": np.asarray(scan.bytes) / 1000,
        _TOKENS: np.asarray(scan.tokens).astype(int),
        "captions per record": np.asarray(scan.count).astype(int),
    }
    charts = [
        histogram(title, numbers, marks.get(title))
        for title, numbers in values.items()
        if np.ptp(numbers)  # the statistics show a single value
    ]
    if not charts:
        return None
    about = note(
        "Dashed lines: data.image_size and data.context_length, if they lie within. The"
        " last bar includes all values further out."
    )
    return tag("div", about, chart_grid(charts))


def _unusable(unusable: Mapping[str, Any]) -> Markup | None:
    if not unusable["count"]:
        return None
    reasons = ((count, reason) for reason, count in unusable["reasons"].items())
    first = unusable["first"]
    rows = ((bad["index"], bad["where"], bad["reason"]) for bad in first)
    shown = len(first)
    title = "All of them" if shown == unusable["count"] else f"The first {shown}"
    return tag(
        "div",
        _wide_table(("count", "reason"), reasons),
        tag("h3", title),
        _wide_table(("record", "where", "reason"), rows),
    )


def _frequent(captions: Mapping[str, Any] | None) -> Markup | None:
    if not captions or not captions["most_frequent"]:
        return None
    rows = ((f"{row['count']:,}", row["caption"]) for row in captions["most_frequent"])
    return _wide_table(("count", "caption"), rows)


def _classes(classes: Mapping[str, int]) -> Markup | None:
    if not classes:
        return None
    names = sorted(classes, key=lambda name: -classes[name])
    about = None
    if len(names) > _MOST_CLASSES:
        about = note(f"The largest {_MOST_CLASSES} of {len(names)}.")
    rows = ((f"{classes[name]:,}", name) for name in names[:_MOST_CLASSES])
    return fold(f"{len(names)} classes", about, _wide_table(("records", "class"), rows))


def _samples(samples: Sequence[RecordViews] | str, config: ConfigDict) -> Markup:
    if isinstance(samples, str):
        return note(samples)
    about = (
        "The original, then both views as the model gets them, with the captions"
        " decoded from their tokens."
    )
    if config.data.views == 1:
        about += " This config trains on the first view only."
    cards = (_sample_card(sample) for sample in samples)
    return tag("div", note(about), tag("div", *cards, class_="samples"))


def _sample_card(sample: RecordViews) -> Markup:
    height, width = sample.original.shape[:2]
    figures = [_figure(sample.original, f"{width} x {height}")]
    for number, view in enumerate(sample.views, 1):
        figures.append(_figure(view, f"view {number}"))
    captions = dict.fromkeys(sample.view_captions)  # often the same
    others = len(sample.captions) - len(captions)
    more = f"and {others} more captions" if others > 1 else "and another caption"
    return tag(
        "div",
        tag("div", *figures, class_="views"),
        *(tag("p", caption) for caption in captions),
        note(more) if others > 0 else None,
        note(sample.where),
        class_="card",
    )


def _figure(pixels: np.ndarray, caption: str) -> Markup:
    image = images.pixels(pixels, alt=caption, longest_side=_THUMBNAIL)
    return tag("figure", image, tag("figcaption", caption))


def _wide_table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    return table(head, rows, class_="wide counts")
