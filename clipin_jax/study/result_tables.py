"""The tables of a study: means, comparisons, costs, missing scores, single values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax.report.components import fold, note
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.tables import Cell, table
from clipin_jax.report.text_format import (
    NO_NUMBER,
    count_noun,
    format_number,
    format_p_value,
)
from clipin_jax.study.charts import comparison_bar, method_label
from clipin_jax.study.conclusions import verdict_word
from clipin_jax.study.results import Metric, StudyResults
from clipin_jax.study.statistics import (
    Comparison,
    Mean,
    PairedTest,
    comparisons,
    mean_over_seeds,
)

MARKS = {"above": "▲", "below": "▼"}
_COSTS = {  # figure -> its column
    "step_ms": "step, ms",
    "ratio": "step time, ratio",
    "flops_ratio": "arithmetic, ratio",
    "peak_mib": "peak memory, MiB",
    "million_params": "parameters, millions",
}
_TESTS = ("p, Holm", "p", "p, sign-flip", "seeds")

Column = tuple[Metric, str]  # metric and level


def score_table(results: StudyResults, columns: Sequence[Column]) -> Markup:
    """Returns means with intervals, a row for each method."""
    verdicts = {
        (c.method, c.metric.name, c.level): c
        for metric in dict.fromkeys(metric for metric, _ in columns)
        # Of several baselines the first one counts.
        for c in reversed(comparisons(results, metric))
    }
    cells = {method: [] for method in results.methods}
    for metric, level in columns:
        means = {m: mean_over_seeds(results, metric, m, level) for m in cells}
        best = _best(metric, means)
        for method, mean in means.items():
            verdict = verdicts.get((method, metric.name, level))
            text = _mean(metric, mean, len(results.seeds), best=method in best)
            cells[method].append(tag("div", _mark(verdict), *text))
    rows = [[method_label(results, method), *row] for method, row in cells.items()]
    if any(metric.chance is not None for metric, _ in columns):
        chances = (tag("small", m.text(m.chance)) for m, _ in columns)
        rows.append([tag("small", "chance"), *chances])
    if results.dial:
        head = [results.dial, *(level for _, level in columns)]
    else:
        head = ["", *(metric.title for metric, _ in columns)]
    return table(head, rows, class_="study numbers")


def comparison_table(results: StudyResults, compared: Sequence[Comparison]) -> Markup:
    """Returns differences with their tests, of levels or along the dial."""
    has_level = bool(results.dial) and compared[0].level is not None
    bounds = [abs(x) for c in compared for x in c.test[:3] if math.isfinite(x)]
    span = max(bounds, default=0) or 1.0
    rows = []
    for c in compared:
        rows.append(
            [
                Cell(
                    tag("span", breakable(c.method), " – ", breakable(c.baseline)),
                    c.method,
                ),
                *([Cell(c.level, c.level)] if has_level else []),
                _number(
                    tag("span", _mark(c), c.metric.text(c.test.mean, sign=True)),
                    c.test.mean,
                ),
                _number(interval_text(c.metric, c.test), c.test.low),
                _number(comparison_bar(c, span), c.test.mean),
                Cell(verdict_word(c), verdict_word(c)),
                _number(format_p_value(c.p_holm), c.p_holm),
                _number(format_p_value(c.test.p), c.test.p),
                _number(format_p_value(c.test.p_flip), c.test.p_flip),
                _number(c.test.n, c.test.n),
            ]
        )
    dial = [results.dial] if has_level else []
    head = ("methods", *dial, "difference", "95 % interval", "drawn", "shown", *_TESTS)
    return table(head, rows, class_="study numbers", sortable=True)


def _number(shown: object, value: float) -> Cell:
    return Cell(shown, value if math.isfinite(value) else None)


def interval_text(metric: Metric, test: PairedTest) -> str:
    """Returns the interval of a test."""
    if not math.isfinite(test.low):
        return NO_NUMBER
    return f"{metric.text(test.low)} to {metric.text(test.high)}"


def cost_table(results: StudyResults) -> Markup | None:
    """Returns the notes and costs of the methods; None if there are neither."""
    if not (results.costs.keys() | results.notes.keys()) & set(results.methods):
        return None
    shown = [key for key in _COSTS if any(key in c for c in results.costs.values())]
    rows = []
    for method in results.methods:
        remark = results.notes.get(method)
        name = tag(
            "div",
            tag("div", method_label(results, method)),
            note(str(remark)) if remark else None,
        )
        costs = results.costs.get(method, {})
        rows.append([name, *(_cost_text(costs.get(key)) for key in shown)])
    return table(("", *(_COSTS[key] for key in shown)), rows, class_="study numbers")


def missing_table(results: StudyResults) -> Markup | None:
    """Returns the runs that lack scores, and why; None if there are none."""
    missing = results.missing_scores()
    if not missing:
        return None
    dial = [results.dial] if results.dial else []
    rows = [
        [run.method, *([run.level] if dial else []), run.seed, reason]
        for run, reason in missing
    ]
    return table(("method", *dial, "seed", "reason"), rows, class_="missing")


def seed_tables(results: StudyResults) -> Markup:
    """Returns the value of each run, folded, metric by metric."""
    folds = []
    for metric in results.metrics:
        rows = []
        for method in results.methods:
            for level in results.levels:
                numbers = results.numbers(metric, method, level)
                texts = (metric.text(numbers.get(seed)) for seed in results.seeds)
                rows.append([method, *([level] if results.dial else []), *texts])
        dial = [results.dial] if results.dial else []
        head = ("", *dial, *(f"seed {seed}" for seed in results.seeds))
        folds.append(fold(metric.title, table(head, rows, class_="study numbers")))
    return tag("div", *folds)


def _best(metric: Metric, means: Mapping[str, Mean]) -> set[str]:
    """Returns the methods with the best mean; none if all are equal."""
    known = {method: mean.mean for method, mean in means.items() if mean.n}
    if len(set(known.values())) < 2:
        return set()
    best = (min if metric.lower_is_better else max)(known.values())
    return {method for method, mean in known.items() if mean == best}


def _mean(metric: Metric, mean: Mean, seeds: int, *, best: bool) -> list[object]:
    if not mean.n:
        return [tag("span", NO_NUMBER)]
    text = metric.text(mean.mean)
    half = f" ± {metric.text(mean.high - mean.mean)}" if mean.n > 1 else ""
    few = note(f"{mean.n} of {count_noun(seeds, 'seed')}") if mean.n < seeds else None
    return [tag("b", text) if best else text, tag("small", half), few]


def _mark(comparison: Comparison | None) -> Markup | None:
    """Returns ▲ or ▼ if a difference is shown."""
    if comparison is None or comparison.verdict not in MARKS:
        return None
    verdict = comparison.verdict
    good = (verdict == "above") != comparison.metric.lower_is_better
    meaning = f"{verdict} {comparison.baseline}"
    return tag(
        "span",
        f"{MARKS[verdict]} ",
        class_="good" if good else "bad",
        title=meaning,
        aria_label=meaning,
    )


def _cost_text(value: Any) -> str:
    return format_number(value) if isinstance(value, int | float) else NO_NUMBER
