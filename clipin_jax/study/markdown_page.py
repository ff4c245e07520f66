"""A study as Markdown, in aligned columns, for a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax.report.text_format import NO_NUMBER, count_noun, format_p_value
from clipin_jax.study import conclusions
from clipin_jax.study.result_tables import interval_text
from clipin_jax.study.results import Metric, StudyResults
from clipin_jax.study.results_json import parse_results
from clipin_jax.study.statistics import (
    Comparison,
    comparisons,
    interactions,
    mean_over_seeds,
)


def study_markdown(results: Mapping[str, Any]) -> str:
    """Returns the conclusions, the means and the comparisons in the primary metric.

    results: the content of results.json. Without a dial the means are of all metrics.

    Raises:
      ClipinError: the results are wrong.
    """
    study = parse_results(results)
    primary = study.primary
    parts = [
        f"## {study.title}",
        study.question,
        _list(conclusions.summary(study)),
        _means_title(study),
        _means(study),
    ]
    compared = comparisons(study, primary)
    if compared:
        parts += [
            f"Differences in {primary.title}, seed by seed:",
            _tests(study, compared),
        ]
    changes = interactions(study, primary)
    if changes:
        low, high = conclusions.dial_ends(study)
        span = f"from {study.dial} {low} to {high}"
        parts += [f"Change of the difference {span}:", _tests(study, changes)]
    if compared:
        parts += ["In words:", _list(conclusions.details(study))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _means_title(study: StudyResults) -> str:
    scores = f"{study.primary.title}, over {study.dial}" if study.dial else "Scores"
    return (
        f"{scores}: mean over {count_noun(len(study.seeds), 'seed')} ± half of its 95 %"
        " interval."
    )


def _means(study: StudyResults) -> str:
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


def _mean(study: StudyResults, metric: Metric, method: str, level: str) -> str:
    mean = mean_over_seeds(study, metric, method, level)
    if not mean.n:
        return NO_NUMBER
    half = f" ± {metric.text(mean.high - mean.mean)}" if mean.n > 1 else ""
    few = f" (n = {mean.n})" if mean.n < len(study.seeds) else ""
    return metric.text(mean.mean) + half + few


def _tests(study: StudyResults, compared: Sequence[Comparison]) -> str:
    has_level = bool(study.dial) and compared[0].level is not None
    rows = [
        [
            f"{c.method} – {c.baseline}",
            *([str(c.level)] if has_level else []),
            c.metric.text(c.test.mean, sign=True),
            interval_text(c.metric, c.test),
            format_p_value(c.p_holm),
            str(c.test.n),
            conclusions.verdict_word(c),
        ]
        for c in compared
    ]
    dial = [study.dial] if has_level else []
    tests = ["difference", "95 % interval", "p after Holm", "seeds", "shown"]
    return _table(["", *dial, *tests], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns columns of even width, the first one aligned left, the others right."""
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
