"""The page of `clipin data check`: figures, histograms, faults and samples."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from clipin_jax.datatools.findings import Advice
from clipin_jax.datatools.histogram import histogram
from clipin_jax.datatools.samples import Sample
from clipin_jax.datatools.scan import Scan
from clipin_jax.report.document import document
from clipin_jax.report.gallery import SMALL
from clipin_jax.report.markup import Markup, tag

SIDE, TOKENS = "shorter side, pixels", "tokens a caption"

THUMBNAIL = 320  # pixels on the longer side of an original
CLASSES = 200  # at most, in the table

OWN_STYLE = """
.bars rect { fill: var(--run); opacity: .85 }
.bars rect:hover { opacity: 1 }
.facts th { width: 8rem; color: var(--soft) }
.advice { margin: 1rem 0; padding: .1rem 1rem; background: var(--card);
  border: 1px solid var(--rule); border-left: 4px solid var(--good);
  border-radius: 8px }
.advice.mend { border-left-color: var(--bad) }
.advice p { margin: .6rem 0 }
.samples { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
.samples .views { align-items: flex-start }
.samples figcaption { margin-top: .15rem; color: var(--soft); font-size: .72rem }
.wide.counts th:first-child { width: 6rem }
.wide td { white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
"""


def write_page(
    found: dict[str, Any],
    facts: dict[str, str],
    advice: list[Advice],
    scan: Scan,
    samples: list[Sample] | str,
    config: ConfigDict,
) -> str:
    """The whole document, which needs nothing but itself."""
    sections = {
        "Figures": _facts(facts),
        "Distributions": _charts(scan, config) if scan.index else None,
        "Unusable records": _bad(found["bad"]) if scan.bad else None,
        "Most frequent captions": _frequent(found["captions"]),
        "Classes": _classes(found["classes"]),
        "Samples": _samples(samples, config),
    }
    title = f"The training data of {config.name}"
    return document(title, sections, lead=_advice(advice), style=OWN_STYLE)


def _advice(advice: list[Advice]) -> Markup:
    if not advice:
        return tag("div", tag("p", "Nothing to mend was found."), class_="advice")
    lines = (tag("p", tag("b", f"{one.head}: "), one.text) for one in advice)
    return tag("div", *lines, class_="advice mend")


def _facts(facts: dict[str, str]) -> Markup:
    rows = (
        tag("tr", tag("th", name, scope="row"), tag("td", text))
        for name, text in facts.items()
    )
    table = tag("table", tag("tbody", *rows), class_="facts wide")
    return tag("div", table, class_="scroll")


def _charts(scan: Scan, config: ConfigDict) -> Markup | None:
    height, width = np.asarray(scan.height), np.asarray(scan.width)
    shorter = np.minimum(height, width).astype(int)
    data = config.data
    marks = {SIDE: min(data.image_size), TOKENS: data.context_length}
    values = {
        SIDE: shorter,
        "width over height": width / height,
        "kilobytes a picture": np.asarray(scan.bytes) / 1000,
        TOKENS: np.asarray(scan.tokens).astype(int),
        "captions a record": np.asarray(scan.count).astype(int),
    }
    charts = [
        histogram(title, numbers, marks.get(title))
        for title, numbers in values.items()
        if np.ptp(numbers)  # one value for all is said in the figures
    ]
    if not charts:
        return None
    note = (
        "Dashed, where within: data.image_size and data.context_length. Values far out "
        "are counted in the last bar."
    )
    return tag("div", _note(note), tag("div", *charts, class_="charts"))


def _bad(bad: dict[str, Any]) -> Markup:
    reasons = _table(("times", "reason"), ((n, r) for r, n in bad["reasons"].items()))
    rows = ((one["index"], one["where"], one["reason"]) for one in bad["first"])
    count = min(len(bad["first"]), bad["count"])
    first = _table(("record", "where", "reason"), rows)
    title = "All of them" if count == bad["count"] else f"The first {count}"
    return tag("div", reasons, tag("h3", title), first)


def _frequent(captions: dict[str, Any] | None) -> Markup | None:
    if not captions or not captions["most_frequent"]:
        return None
    rows = ((f"{one['count']:,}", one["caption"]) for one in captions["most_frequent"])
    return _table(("times", "caption"), rows)


def _classes(classes: dict[str, int]) -> Markup | None:
    if not classes:
        return None
    names = sorted(classes, key=lambda name: -classes[name])
    note = f"The largest {CLASSES} of {len(names)}." if len(names) > CLASSES else None
    rows = ((f"{classes[name]:,}", name) for name in names[:CLASSES])
    table = _table(("records", "class"), rows)
    summary = tag("summary", f"{len(names)} classes")
    return tag("details", summary, _note(note) if note else None, table)


def _samples(samples: list[Sample] | str, config: ConfigDict) -> Markup:
    if isinstance(samples, str):
        return _note(samples)
    note = (
        "The original, then both views as the model gets them, with the captions that "
        "their tokens spell."
    )
    if config.data.views == 1:
        note += " This config trains on the first view only."
    cards = (_sample(sample) for sample in samples)
    return tag("div", _note(note), tag("div", *cards, class_="samples"))


def _sample(sample: Sample) -> Markup:
    height, width = sample.original.shape[:2]
    pictures = [_figure(sample.original, f"{width} x {height}")]
    for number, view in enumerate(sample.views, 1):
        pictures.append(_figure(view, f"view {number}"))
    texts = dict.fromkeys(sample.texts)  # one text more often than not
    others = len(sample.captions) - len(texts)
    more = f"and {others} more captions" if others > 1 else "and another caption"
    return tag(
        "div",
        tag("div", *pictures, class_="views"),
        *(tag("p", text) for text in texts),
        tag("p", more, class_="note") if others > 0 else None,
        tag("p", sample.where, class_="note"),
        class_="card",
    )


def _figure(pixels: np.ndarray, caption: str) -> Markup:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer, small = io.BytesIO(), max(picture.size) < SMALL
    picture.save(buffer, "PNG" if small else "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/{'png' if small else 'jpeg'};base64,{data}"
    image = tag("img", src=source, alt=caption, class_="pixels" if small else None)
    return tag("figure", image, tag("figcaption", caption))


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Markup:
    cells = (tag("th", name, scope="col") for name in head)
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    parts = tag("thead", tag("tr", *cells)), tag("tbody", *body)
    return tag("div", tag("table", *parts, class_="wide counts"), class_="scroll")


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")
