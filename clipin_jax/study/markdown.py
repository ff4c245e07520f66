"""A study as Markdown, for a document beside others: plain, in aligned columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax.study import reading, words
from clipin_jax.study.results import NONE, Metric, Results
from clipin_jax.study.results_file import parse
from clipin_jax.study.statistics import Comparison, cell_mean, comparisons, interactions


def markdown(results: Mapping[str, Any]) -> str:
    """The reading, the means and the comparisons in the primary metric.

    results: what results.json holds. Without a dial the means are of all metrics.
    Raises ClipinError where the results are wrong.
    """
    study = parse(results)
    primary = study.primary
    parts = [
        f"## {study.title}",
        study.question,
        _list(reading.summary(study)),
        _means_title(study),
        _means(study),
    ]
    found = comparisons(study, primary)
    if found:
        parts += [
            f"Differences in {primary.title}, seed by seed:",
            _tests(study, found),
        ]
    changes = interactions(study, primary)
    if changes:
        low, high = reading.dial_ends(study)
        span = f"from {study.dial} {low} to {high}"
        parts += [f"Change of the difference {span}:", _tests(study, changes)]
    if found:
        parts += ["In words:", _list(reading.details(study))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _means_title(study: Results) -> str:
    what = f"{study.primary.title}, over {study.dial}" if study.dial else "Scores"
    return (
        f"{what}: mean over {words.plural(len(study.seeds), 'seed')} ± half of"
        " its 95 % interval."
    )


def _means(study: Results) -> str:
    if study.dial:
        columns = [(study.primary, level) for level in study.levels]
        head = ["", *study.levels]
    else:
        columns = [(m, level) for m in study.metrics for level in study.levels]
        head = ["", *(metric.title for metric in study.metrics)]
    rows = [
        [method, *(_mean(study, metric, method, level) for metric, level in columns)]
        for method in study.methods
    ]
    if any(metric.chance is not None for metric, _ in columns):
        rows.append(["chance", *(metric.text(metric.chance) for metric, _ in columns)])
    return _table(head, rows)


def _mean(study: Results, metric: Metric, method: str, level: str) -> str:
    mean = cell_mean(study, metric, method, level)
    if not mean.n:
        return NONE
    half = f" ± {metric.text(mean.high - mean.mean)}" if mean.n > 1 else ""
    few = f" (n = {mean.n})" if mean.n < len(study.seeds) else ""
    return metric.text(mean.mean) + half + few


def _tests(study: Results, found: list[Comparison]) -> str:
    along = bool(study.dial) and found[0].level is not None
    rows = []
    for c in found:
        test, metric = c.test, c.metric
        interval = f"{metric.text(test.low)} to {metric.text(test.high)}"
        row = [f"{c.method} – {c.baseline}", *([str(c.level)] if along else [])]
        row += [
            metric.text(test.mean, sign=True),
            interval if math.isfinite(test.low) else NONE,
            words.p_text(c.p_holm),
            str(test.n),
            reading.shown(c),
        ]
        rows.append(row)
    dial = [study.dial] if along else []
    tests = ["difference", "95 % interval", "p after Holm", "seeds", "shown"]
    return _table(["", *dial, *tests], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of even width: the first to the left, numbers to the right."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = lines
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in [first, rule, *others]
    )


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
