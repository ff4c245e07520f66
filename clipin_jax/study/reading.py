"""The sentences that a study's numbers support, and none beyond.

A difference that is not shown is said as plainly as one that is. The words come from
templates: whoever writes about a study can quote them.
"""

from __future__ import annotations

import math
import statistics

from clipin_jax.study.results import Metric, Results
from clipin_jax.study.statistics import (
    Comparison,
    cell_mean,
    comparisons,
    interactions,
)
from clipin_jax.study.words import listed, named, p_text, plural

FEW = 5  # seeds below which the tests are called weak


def summary(results: Results) -> list[str]:
    """What the whole study says in its primary metric, and what weakens it."""
    found = comparisons(results, results.primary)
    changes = interactions(results, results.primary)
    changes = [change for change in changes if change.test.n > 1]
    sentences = [_counts(results, found), *_by_pair(results, found)]
    sentences += [change_sentence(results, change) for change in changes]
    sentences += [
        _best(results),
        _chance(results),
        _few([*found, *changes]),
        _lost(results),
        _scope(results),
    ]
    return [sentence for sentence in sentences if sentence]


def details(results: Results) -> list[str]:
    """One sentence for each comparison in the primary metric."""
    found = comparisons(results, results.primary)
    return [sentence(results, comparison) for comparison in found]


def sentence(results: Results, found: Comparison) -> str:
    """What one comparison shows."""
    metric, test = found.metric, found.test
    names = f"{named(found.method)} and {named(found.baseline)}"
    at = _at(results, found.level)
    seeds = _seeds(test.n, len(results.seeds))
    if test.n == 0:
        return _open(f"{at}no seed has numbers of both {names} in {metric.label}.")
    if math.isnan(test.p) and metric.text(test.mean, sign=True) == metric.text(0):
        return _open(f"{at}{names} are equal in {metric.label} on {seeds}.")
    size = _size(found)
    if test.n == 1:
        return _open(f"{at}{size} on one seed, which can not be tested.")
    if math.isnan(test.p):
        return _open(
            f"{at}{size} on each of {seeds}: without a spread between seeds there is"
            " no test, and nothing is shown."
        )
    after = _after(found)
    if found.verdict != "undecided":
        return _open(f"{at}{size} ({_interval(found)}, {after}, {seeds}).")
    if test.low <= 0 <= test.high:
        span = f"{_span(metric, test.low, test.high)}{_points(metric)}"
        return _open(
            f"{at}no difference between {names} is shown in {metric.label}: the"
            f" interval {span} includes zero (mean {metric.text(test.mean, sign=True)},"
            f" {after}, {seeds})."
        )
    return _open(
        f"{at}{size} if nothing else is compared ({_interval(found)}), but {after},"
        f" {seeds}: no difference is shown."
    )


def change_sentence(results: Results, found: Comparison) -> str:
    """Whether the difference between two methods changes along the dial."""
    metric, test = found.metric, found.test
    low, high = dial_ends(results)
    pair = f"{named(found.method)} less {named(found.baseline)}"
    what = f"the difference {pair} in {metric.label}"
    seeds = _seeds(test.n, len(results.seeds))
    if math.isnan(test.p):
        return f"From {results.dial} {low} to {high} {what} has no spread on {seeds}."
    why = f"({_interval(found)}, {_after(found, 'slope')}, {seeds})"
    if found.verdict == "undecided":
        moves = f"{metric.text(test.mean, sign=True)}{_points(metric)}"
        return (
            f"From {results.dial} {low} to {high} no change of {what} is shown:"
            f" it moves by {moves} {why}."
        )
    verb = "rises" if test.mean > 0 else "falls"
    return (
        f"From {results.dial} {low} to {high} {what} {verb} by"
        f" {metric.amount(test.mean)} {why}."
    )


def shown(found: Comparison) -> str:
    """The verdict in a word; along the dial, whether the difference rises or falls."""
    along = {"above": "rises", "below": "falls"} if found.level is None else {}
    return along.get(found.verdict, found.verdict)


def dial_ends(results: Results) -> tuple[str, str]:
    """The lowest and the highest level, as they are written."""
    return min(results.levels, key=float), max(results.levels, key=float)


def _counts(results: Results, found: list[Comparison]) -> str:
    if not found:
        return "Nothing is compared in this study."
    of = {v: sum(c.verdict == v for c in found) for v in _COUNTED}
    shown = [v for v in _COUNTED if of[v] or v != "untested"]
    said = ", ".join(f"{of[v]} {_COUNTED[v]}" for v in shown)
    correction = " after Holm's correction" if len(found) > 1 else ""
    lower = " Lower is better there." if results.primary.lower_is_better else ""
    return (
        f"{plural(len(found), 'comparison')} in {results.primary.label}: {said}"
        f" (5 % level{correction}).{lower}"
    )


_COUNTED = {
    "above": "above the baseline",
    "below": "below the baseline",
    "undecided": "undecided",
    "untested": "not testable yet",
}


def _by_pair(results: Results, found: list[Comparison]) -> list[str]:
    """Where the methods stand, those that stand alike in one sentence.

    Only what is decided is said where there is no dial.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for method, baseline in results.pairs:
        of = [c for c in found if (c.method, c.baseline) == (method, baseline)]
        stands = _standing(results, of, baseline)
        if stands:
            alike.setdefault((baseline, stands), []).append(named(method))
    return [
        f"{listed(methods)} {'is' if len(methods) == 1 else 'are'} {stands}."
        for (_, stands), methods in alike.items()
    ]


def _standing(results: Results, found: list[Comparison], baseline: str) -> str:
    """What one method's comparisons say: "above CLIP at dial 0 and undecided at 1"."""
    parts = []
    for verdict in ("above", "below", "undecided"):
        levels = [str(c.level) for c in found if c.verdict == verdict]
        if not levels or (verdict == "undecided" and not _dial(results)):
            continue
        against = " against" if verdict == "undecided" else ""
        place = verdict if parts else f"{verdict}{against} {named(baseline)}"
        at = f" at {results.dial} {listed(levels)}" if _dial(results) else ""
        parts.append(place + at)
    return " and ".join(parts)


def _best(results: Results) -> str:
    """Whose mean over the dial is best, shown or not: what a search chooses by."""
    metric = results.primary
    means = {
        method: statistics.fmean(
            cell_mean(results, metric, method, level).mean for level in results.levels
        )
        for method in results.methods
    }
    means = {method: mean for method, mean in means.items() if math.isfinite(mean)}
    if len(results.levels) < 2 or len(means) < 2:
        return ""
    best = (min if metric.lower_is_better else max)(means, key=means.__getitem__)
    bases = dict.fromkeys(b for _, b in results.pairs if b in means and b != best)
    others = (f"; {named(base)} has {metric.text(means[base])}" for base in bases)
    return (
        f"Averaged over {results.dial}, untested: {metric.label} is best with"
        f" {named(best)} ({metric.text(means[best])}){''.join(others)}."
    )


def _chance(results: Results) -> str:
    """Cells that tell nothing apart, for they may be at chance."""
    metric = results.primary
    if metric.chance is None or metric.lower_is_better:
        return ""
    weak: dict[str, list[str]] = {}
    for level in results.levels:
        for method in results.methods:
            mean = cell_mean(results, metric, method, level)
            if mean.n > 1 and mean.low <= metric.chance:
                weak.setdefault(level, []).append(named(method))
    if not weak:
        return ""
    said = (
        listed(methods) + _at(results, level, before=" at ").rstrip()
        for level, methods in weak.items()
    )
    return f"Not shown to be above chance in {metric.label}: {'; '.join(said)}."


def _few(found: list[Comparison]) -> str:
    fewest = min((c.test.n for c in found if c.test.n > 1), default=FEW)
    if fewest >= FEW:
        return ""
    return (
        f"With {plural(fewest, 'seed')} a test is weak: it sees large differences only."
    )


def _lost(results: Results) -> str:
    """What the numbers leave out: no method may gain by failing unseen."""
    total = sum(1 for _ in results.cells)
    waiting = sum(cell not in results.runs for cell in results.cells)
    failed = {
        method: sum(
            (method, level, seed) in results.runs
            for level in results.levels
            for seed in results.seeds
            if seed not in results.numbers(results.primary, method, level)
        )
        for method in results.methods
    }
    parts = []
    if any(failed.values()):
        said = listed(f"{n} of {named(method)}" for method, n in failed.items() if n)
        parts.append(f"{sum(failed.values())} failed or gave no number ({said})")
    if waiting:
        parts.append(f"{waiting} {'has' if waiting == 1 else 'have'} not run")
    if not parts:
        return ""
    return (
        f"Of {plural(total, 'run')}, {listed(parts)}: means and tests are of the rest."
    )


def _scope(results: Results) -> str:
    plain = {
        key: value
        for key, value in results.settings.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    said = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in list(plain.items())[:4])
    return (
        "All of this is about these data, models of this size and trainings of this"
        f" length{f' ({said})' if said else ''}, and says nothing of others."
    )


def _size(found: Comparison) -> str:
    where = "above" if found.test.mean > 0 else "below"
    amount = found.metric.amount(found.test.mean)
    method, baseline = named(found.method), named(found.baseline)
    return f"{method} is {amount} {where} {baseline} in {found.metric.label}"


def _interval(found: Comparison) -> str:
    return f"95 % interval {_span(found.metric, found.test.low, found.test.high)}"


def _span(metric: Metric, low: float, high: float) -> str:
    return f"{metric.text(low)} to {metric.text(high)}"


def _points(metric: Metric) -> str:
    return " points" if metric.percent else ""


def _after(found: Comparison, word: str = "comparison") -> str:
    p = f"p {p_text(found.p_holm, equals=True)}"
    if found.family == 1:
        return p
    return f"{p} after Holm over {plural(found.family, word)}"


def _seeds(n: int, total: int) -> str:
    return plural(n, "seed") if n == total else f"{n} of {plural(total, 'seed')}"


def _dial(results: Results) -> bool:
    return bool(results.dial)


def _at(results: Results, level: str | None, before: str = "at ") -> str:
    return f"{before}{results.dial} {level} " if _dial(results) else ""


def _open(text: str) -> str:
    """A sentence begins with a capital, unless with a method's own name."""
    starts = ("at ", "no ")
    return text[0].upper() + text[1:] if text.startswith(starts) else text
