"""A study's tables: means, comparisons, costs, missing runs, single values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clipin_jax.report.charts import format_number
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.tables import table
from clipin_jax.study import figures, reading, words
from clipin_jax.study.results import NONE, Metric, Results
from clipin_jax.study.statistics import Comparison, Mean, cell_mean, comparisons

MARKS = {"above": "▲", "below": "▼"}
BEST = "★"
COSTS = {  # figure -> its column; the floor is what the arithmetic alone would take
    "step_ms": "step, ms",
    "ratio": "step time, ratio",
    "flops_ratio": "its floor by arithmetic",
    "peak_mib": "peak memory, MiB",
    "million_params": "parameters, millions",
}


def score_table(results: Results, columns: list[tuple[Metric, str]]) -> Markup:
    """Means with intervals: methods down, (metric, level) across."""
    means = {
        (method, i): cell_mean(results, metric, method, level)
        for i, (metric, level) in enumerate(columns)
        for method in results.methods
    }
    best = {i: _best(metric, means, i) for i, (metric, _) in enumerate(columns)}
    verdicts = {
        (c.method, c.metric.name, c.level): c
        for metric in dict.fromkeys(metric for metric, _ in columns)
        for c in reversed(comparisons(results, metric))  # the first baseline stays
    }
    rows = []
    for method in results.methods:
        cells = []
        for i, (metric, level) in enumerate(columns):
            found = verdicts.get((method, metric.name, level))
            is_best = method in best[i]
            mean = means[method, i]
            cells.append(_cell(metric, mean, len(results.seeds), is_best, found))
        rows.append([figures.method_name(results, method), *cells])
    if any(metric.chance is not None for metric, _ in columns):
        chance = (tag("small", m.text(m.chance)) for m, _ in columns)
        rows.append([tag("small", "chance"), *chance])
    if results.dial:
        head = [results.dial, *(level for _, level in columns)]
    else:
        head = ["", *(metric.title for metric, _ in columns)]
    return table(head, rows, class_="study")


def _best(metric: Metric, means: Mapping[Any, Mean], column: int) -> set[str]:
    """The methods with the best mean of a column; none where there is no contest."""
    of = {m: mean.mean for (m, i), mean in means.items() if i == column and mean.n}
    if len(set(of.values())) < 2:
        return set()
    top = (min if metric.lower_is_better else max)(of.values())
    return {method for method, mean in of.items() if mean == top}


def _cell(
    metric: Metric, mean: Mean, seeds: int, best: bool, found: Comparison | None
) -> Markup:
    if not mean.n:
        return tag("span", NONE)
    half = f" ± {metric.text(mean.high - mean.mean)}" if mean.n > 1 else ""
    parts = [
        _mark(found),
        tag("b", f"{BEST} {metric.text(mean.mean)}")
        if best
        else metric.text(mean.mean),
        tag("small", half),
    ]
    if mean.n < seeds:
        parts.append(note(f"{mean.n} of {words.plural(seeds, 'seed')}"))
    return tag("div", *parts)


def _mark(found: Comparison | None) -> Markup | None:
    """▲ or ▼ where a difference is shown."""
    if found is None or found.verdict not in MARKS:
        return None
    good = (found.verdict == "above") != found.metric.lower_is_better
    says = f"{found.verdict} {found.baseline}"
    mark = MARKS[found.verdict]
    class_ = "good" if good else "bad"
    return tag("span", f"{mark} ", class_=class_, title=says, aria_label=says)


def comparison_table(results: Results, found: list[Comparison]) -> Markup:
    """Differences with their tests, of levels or along the dial."""
    along = bool(results.dial) and found[0].level is not None
    bounds = [abs(x) for c in found for x in c.test[:3] if math.isfinite(x)]
    span = max(bounds, default=0) or 1.0
    rows = []
    for c in found:
        test, metric = c.test, c.metric
        interval = f"{metric.text(test.low)} to {metric.text(test.high)}"
        rows.append(
            [
                tag("span", breakable(c.method), " – ", breakable(c.baseline)),
                *([c.level] if along else []),
                tag("span", _mark(c), metric.text(test.mean, sign=True)),
                interval if math.isfinite(test.low) else NONE,
                figures.interval_bar(c, span),
                reading.shown(c),
                words.p_text(c.p_holm),
                words.p_text(test.p),
                words.p_text(test.p_flip),
                test.n,
            ]
        )
    dial = [results.dial] if along else []
    tests = ("p, Holm", "p", "p, sign-flip", "seeds")
    head = ("", *dial, "difference", "95 % interval", "", "shown", *tests)
    return table(head, rows, class_="study")


def cost_table(results: Results) -> Markup | None:
    """What each method changes and what it costs; None where neither is known."""
    if not (results.costs.keys() | results.notes.keys()) & set(results.methods):
        return None
    shown = [key for key in COSTS if any(key in c for c in results.costs.values())]
    rows = []
    for method in results.methods:
        name = tag("div", figures.method_name(results, method))
        says = results.notes.get(method)
        about = tag("div", name, note(str(says)) if says else None)
        costs = results.costs.get(method, {})
        rows.append([about, *(_number(costs.get(key)) for key in shown)])
    return table(("", *(COSTS[key] for key in shown)), rows, class_="study")


def _number(value: Any) -> str:
    return format_number(value) if isinstance(value, int | float) else NONE


def fault_table(results: Results) -> Markup | None:
    """The runs that the numbers leave out, and why; None when all are in."""
    faults = results.faults()
    if not faults:
        return None
    dial = [results.dial] if results.dial else []
    rows = [[f.method, *([f.level] if dial else []), f.seed, f.reason] for f in faults]
    head = ("method", *dial, "seed", "what happened")
    return table(head, rows, class_="faults")


def seed_tables(results: Results) -> Markup:
    """Every single value, folded, metric by metric."""
    parts = []
    for metric in results.metrics:
        rows = []
        for method in results.methods:
            for level in results.levels:
                at = [level] if results.dial else []
                values = results.numbers(metric, method, level)
                texts = (metric.text(values.get(seed)) for seed in results.seeds)
                rows.append([method, *at, *texts])
        dial = [results.dial] if results.dial else []
        head = ("", *dial, *(f"seed {seed}" for seed in results.seeds))
        values = table(head, rows, class_="study")
        parts.append(tag("details", tag("summary", metric.title), values))
    return tag("div", *parts)


def note(text: str) -> Markup:
    """A remark."""
    return tag("p", text, class_="note")
