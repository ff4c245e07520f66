"""Sentences that a study's numbers support.

A difference that is not shown is stated as plainly as one that is. The sentences come
from templates and may be quoted.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from clipin_jax.report.text_format import (
    count_noun,
    format_p_value,
    join_words,
    quote_phrase,
)
from clipin_jax.study.results import Metric, StudyResults
from clipin_jax.study.statistics import (
    Comparison,
    comparisons,
    interactions,
    mean_over_seeds,
)

FEW = 5  # seeds; with fewer, the tests are called weak
_SETTINGS = 4  # that the last sentence names at most
_COUNTED = {
    "above": "above the baseline",
    "below": "below the baseline",
    "undecided": "undecided",
    "untested": "not testable yet",
}


def summary(results: StudyResults) -> list[str]:
    """Returns what the study shows in its primary metric, and its limits."""
    compared = comparisons(results, results.primary)
    changes = interactions(results, results.primary)
    changes = [change for change in changes if change.test.n > 1]
    sentences = [
        _counts(results, compared),
        *_by_pair(results, compared),
        *(change_sentence(results, change) for change in changes),
        _best_mean(results),
        _near_chance(results),
        _few_seeds([*compared, *changes]),
        _missing_runs(results),
        _scope(results),
    ]
    return [sentence for sentence in sentences if sentence]


def details(results: StudyResults) -> list[str]:
    """Returns a sentence for each comparison in the primary metric."""
    compared = comparisons(results, results.primary)
    return [comparison_sentence(results, comparison) for comparison in compared]


def comparison_sentence(results: StudyResults, comparison: Comparison) -> str:
    """Returns what one comparison shows."""
    metric, test = comparison.metric, comparison.test
    names = f"{quote_phrase(comparison.method)} and {quote_phrase(comparison.baseline)}"
    at = _at_level(results, comparison.level)
    seeds = _seeds(test.n, len(results.seeds))
    if test.n == 0:
        return _capitalized(
            f"{at}no seed has numbers of both {names} in {metric.label}."
        )
    if math.isnan(test.p) and metric.text(test.mean, sign=True) == metric.text(0):
        return _capitalized(f"{at}{names} are equal in {metric.label} on {seeds}.")
    size = _size(comparison)
    if test.n == 1:
        return _capitalized(f"{at}{size} on one seed, which cannot be tested.")
    if math.isnan(test.p):
        return _capitalized(
            f"{at}{size} on each of {seeds}: without a spread between seeds there is"
            " no test, and nothing is shown."
        )
    corrected = _corrected_p(comparison)
    if comparison.verdict != "undecided":
        return _capitalized(
            f"{at}{size} ({_interval(comparison)}, {corrected}, {seeds})."
        )
    if test.low <= 0 <= test.high:
        span = f"{_span(metric, test.low, test.high)}{_points(metric)}"
        mean = metric.text(test.mean, sign=True)
        return _capitalized(
            f"{at}no difference between {names} is shown in {metric.label}: the"
            f" interval {span} includes zero (mean {mean}, {corrected}, {seeds})."
        )
    return _capitalized(
        f"{at}{size} when taken alone ({_interval(comparison)}), but"
        f" {corrected}, {seeds}: no difference is shown."
    )


def change_sentence(results: StudyResults, change: Comparison) -> str:
    """Returns whether the difference between two methods changes along the dial."""
    metric, test = change.metric, change.test
    low, high = dial_ends(results)
    pair = f"{quote_phrase(change.method)} minus {quote_phrase(change.baseline)}"
    difference = f"the difference {pair} in {metric.label}"
    along = f"From {results.dial} {low} to {high}"
    seeds = _seeds(test.n, len(results.seeds))
    if math.isnan(test.p):
        return f"{along} {difference} has no spread on {seeds}."
    reason = f"({_interval(change)}, {_corrected_p(change, 'slope')}, {seeds})"
    if change.verdict == "undecided":
        amount = f"{metric.text(test.mean, sign=True)}{_points(metric)}"
        return (
            f"{along} no change of {difference} is shown: it changes by"
            f" {amount} {reason}."
        )
    verb = "rises" if test.mean > 0 else "falls"
    return f"{along} {difference} {verb} by {metric.size_text(test.mean)} {reason}."


def verdict_word(comparison: Comparison) -> str:
    """Returns the verdict; along the dial "rises" and "falls" for above and below."""
    along = {"above": "rises", "below": "falls"} if comparison.level is None else {}
    return along.get(comparison.verdict, comparison.verdict)


def dial_ends(results: StudyResults) -> tuple[str, str]:
    """Returns the names of the lowest and the highest level."""
    return min(results.levels, key=float), max(results.levels, key=float)


def _counts(results: StudyResults, compared: Sequence[Comparison]) -> str:
    if not compared:
        return "Nothing is compared in this study."
    counts = {v: sum(c.verdict == v for c in compared) for v in _COUNTED}
    shown = [v for v in _COUNTED if counts[v] or v != "untested"]
    listed = ", ".join(f"{counts[v]} {_COUNTED[v]}" for v in shown)
    correction = " after Holm's correction" if len(compared) > 1 else ""
    lower = " Lower is better." if results.primary.lower_is_better else ""
    return (
        f"{count_noun(len(compared), 'comparison')} in {results.primary.label}: "
        f"{listed} (5 % level{correction}).{lower}"
    )


def _by_pair(results: StudyResults, compared: Sequence[Comparison]) -> list[str]:
    """Returns the verdicts of the methods, equal ones in one sentence.

    Without a dial, undecided ones are left out.
    """
    equal: dict[tuple[str, str], list[str]] = {}
    for method, baseline in results.pairs:
        of_pair = [c for c in compared if (c.method, c.baseline) == (method, baseline)]
        verdicts = _verdicts(results, of_pair, baseline)
        if verdicts:
            equal.setdefault((baseline, verdicts), []).append(quote_phrase(method))
    return [
        f"{join_words(methods)} {'is' if len(methods) == 1 else 'are'} {verdicts}."
        for (_, verdicts), methods in equal.items()
    ]


def _verdicts(
    results: StudyResults, compared: Sequence[Comparison], baseline: str
) -> str:
    """Returns a method's verdicts: "above CLIP at dial 0 and undecided at dial 1"."""
    parts = []
    for verdict in ("above", "below", "undecided"):
        levels = [str(c.level) for c in compared if c.verdict == verdict]
        if not levels or (verdict == "undecided" and not results.dial):
            continue
        against = " against" if verdict == "undecided" else ""
        text = verdict if parts else f"{verdict}{against} {quote_phrase(baseline)}"
        at = f" at {results.dial} {join_words(levels)}" if results.dial else ""
        parts.append(text + at)
    return " and ".join(parts)


def _best_mean(results: StudyResults) -> str:
    """Returns which method has the best mean over the dial, shown to be best or not."""
    metric = results.primary
    means = {
        method: statistics.fmean(
            mean_over_seeds(results, metric, method, level).mean
            for level in results.levels
        )
        for method in results.methods
    }
    means = {method: mean for method, mean in means.items() if math.isfinite(mean)}
    if len(results.levels) < 2 or len(means) < 2:
        return ""
    best = (min if metric.lower_is_better else max)(means, key=means.__getitem__)
    bases = dict.fromkeys(b for _, b in results.pairs if b in means and b != best)
    others = (f"; {quote_phrase(b)} has {metric.text(means[b])}" for b in bases)
    return (
        f"Averaged over {results.dial}, untested: {metric.label} is best with"
        f" {quote_phrase(best)} ({metric.text(means[best])}){''.join(others)}."
    )


def _near_chance(results: StudyResults) -> str:
    """Returns the methods whose interval reaches chance."""
    metric = results.primary
    if metric.chance is None or metric.lower_is_better:
        return ""
    weak: dict[str, list[str]] = {}
    for level in results.levels:
        for method in results.methods:
            mean = mean_over_seeds(results, metric, method, level)
            if mean.n > 1 and mean.low <= metric.chance:
                weak.setdefault(level, []).append(quote_phrase(method))
    if not weak:
        return ""
    listed = (
        f"{join_words(methods)} {_at_level(results, level)}".rstrip()
        for level, methods in weak.items()
    )
    return f"Not shown to be above chance in {metric.label}: {'; '.join(listed)}."


def _few_seeds(compared: Sequence[Comparison]) -> str:
    fewest = min((c.test.n for c in compared if c.test.n > 1), default=FEW)
    if fewest >= FEW:
        return ""
    return (
        f"With {count_noun(fewest, 'seed')} a test is weak: it shows large differences"
        " only."
    )


def _missing_runs(results: StudyResults) -> str:
    """Returns what the numbers leave out: a method must not gain by failing unseen."""
    planned = list(results.planned_runs)
    waiting = sum(run not in results.runs for run in planned)
    failed = {
        method: sum(
            run.method == method
            and run in results.runs
            and run.seed not in results.numbers(results.primary, method, run.level)
            for run in planned
        )
        for method in results.methods
    }
    parts = []
    if any(failed.values()):
        counts = (f"{n} of {quote_phrase(m)}" for m, n in failed.items() if n)
        total = sum(failed.values())
        parts.append(f"{total} failed or have no number ({join_words(counts)})")
    if waiting:
        parts.append(f"{waiting} {'has' if waiting == 1 else 'have'} not run")
    if not parts:
        return ""
    return (
        f"Of {count_noun(len(planned), 'run')}, {join_words(parts)}: means and tests"
        " are of the rest."
    )


def _scope(results: StudyResults) -> str:
    numbers = [
        f"{key.replace('_', ' ')} {value:g}"
        for key, value in results.settings.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    listed = f" ({', '.join(numbers[:_SETTINGS])})" if numbers else ""
    return (
        "All of this is about these data, models of this size and training runs of"
        f" this length{listed}; it says nothing about others."
    )


def _size(comparison: Comparison) -> str:
    where = "above" if comparison.test.mean > 0 else "below"
    size = comparison.metric.size_text(comparison.test.mean)
    method, baseline = map(quote_phrase, (comparison.method, comparison.baseline))
    return f"{method} is {size} {where} {baseline} in {comparison.metric.label}"


def _interval(comparison: Comparison) -> str:
    test = comparison.test
    return f"95 % interval {_span(comparison.metric, test.low, test.high)}"


def _span(metric: Metric, low: float, high: float) -> str:
    return f"{metric.text(low)} to {metric.text(high)}"


def _points(metric: Metric) -> str:
    return " points" if metric.percent else ""


def _corrected_p(comparison: Comparison, noun: str = "comparison") -> str:
    p = f"p {format_p_value(comparison.p_holm, equals=True)}"
    if comparison.family == 1:
        return p
    return f"{p} after Holm over {count_noun(comparison.family, noun)}"


def _seeds(n: int, total: int) -> str:
    if n == total:
        return count_noun(n, "seed")
    return f"{n} of {count_noun(total, 'seed')}"


def _at_level(results: StudyResults, level: str | None) -> str:
    return f"at {results.dial} {level} " if results.dial else ""


def _capitalized(sentence: str) -> str:
    """Returns a sentence with a capital, unless it begins with a method's name."""
    if sentence.startswith(("at ", "no ")):
        return sentence[0].upper() + sentence[1:]
    return sentence
