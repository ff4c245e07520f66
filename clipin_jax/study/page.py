"""One page about a study, which needs nothing but itself: the reading comes first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.report.document import document
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run import flatten
from clipin_jax.report.tables import table
from clipin_jax.study import figures, reading, words
from clipin_jax.study.results import Results
from clipin_jax.study.results_file import parse
from clipin_jax.study.statistics import comparisons, interactions
from clipin_jax.study.tables import (
    BEST,
    MARKS,
    comparison_table,
    cost_table,
    fault_table,
    note,
    score_table,
    seed_tables,
)

UNFOLDED = 6  # sentences that need no fold
STYLE = (
    figures.STYLE
    + """
.question { margin: 1.2rem 0 .2rem; font-size: 1.1rem; max-width: 46rem }
.reading { margin: 0; padding-left: 1.2rem; max-width: 52rem }
.reading li { margin: .3rem 0 }
.scroll:has(.study) { width: fit-content; max-width: 100% }
.study { width: auto; border-collapse: separate; border-spacing: 0 }
.study th:nth-child(n+2), .study td:nth-child(n+2) { text-align: right;
  white-space: nowrap }
.study td:first-child { min-width: 8rem; max-width: 22rem; position: sticky; left: 0;
  background: var(--card) }
.study td:first-child .note { min-width: 11rem }
.level text { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
.faults td:last-child { min-width: 14rem; overflow-wrap: anywhere }
.study small { color: var(--soft) }
.study .note { margin: 0; font-size: .78rem; text-align: inherit }
.good { color: var(--good) } .bad { color: var(--bad) }
.dials { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)) }
.dials figure { max-width: 36rem }
.legend { margin: .2rem 0 .7rem }
"""
)


def write_page(results: Mapping[str, Any], path: Path) -> Path:
    """Writes the page about a study to `path`, and returns that.

    results: what results.json holds; the study may be unfinished.
    Raises ClipinError where the results are wrong, or the page can not be written.
    """
    text = page(parse(results))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ClipinError(f"can not write the study's page {path}: {reason}") from error
    return path


def page(results: Results) -> str:
    """The whole document."""
    sections = {
        "Reading": _reading(results),
        "Scores": _scores(results),
        "Along the dial": _dial(results),
        "Comparisons": _comparisons(results),
        "Methods and cost": cost_table(results),
        "Training curves": _curves(results),
        "Runs without a number": fault_table(results),
        "Values of each seed": seed_tables(results),
        "Settings": _tree(results.settings),
        "Environment": _tree(results.environment),
    }
    lead = tag(
        "div", tag("p", results.question, class_="question"), note(_progress(results))
    )
    return document(results.title, sections, lead, STYLE)


def _progress(results: Results) -> str:
    levels = len(results.levels)
    grid = [words.plural(len(results.methods), "method")]
    if results.dial:
        grid.append(f"{words.plural(levels, 'level')} of {results.dial}")
    grid.append(words.plural(len(results.seeds), "seed"))
    total, done = sum(1 for _ in results.cells), len(results.runs)
    state = "all have run" if done == total else f"{done} of them have run"
    return f"{' × '.join(grid)} = {words.plural(total, 'run')}, {state}."


def _reading(results: Results) -> Markup:
    summary = _list(reading.summary(results))
    details = reading.details(results)
    if not details:
        return summary
    head = tag("summary", f"Each comparison in {results.primary.label}")
    few = "" if len(details) <= UNFOLDED else None
    return tag("div", summary, tag("details", head, _list(details), open=few))


def _scores(results: Results) -> Markup:
    about = note(
        "Mean over seeds ± half of its 95 % interval. "
        f"{BEST} and bold: the best mean of a column, whether or not it is shown to be"
        f" best. {MARKS['above']} above and {MARKS['below']} below the method's"
        " baseline, tested seed by seed and corrected by Holm within the metric."
    )
    if not results.dial:
        columns = [(m, level) for m in results.metrics for level in results.levels]
        return tag("div", about, score_table(results, columns))
    parts = [about]
    for metric in results.metrics:
        columns = [(metric, level) for level in results.levels]
        parts += [tag("h3", metric.title), score_table(results, columns)]
    return tag("div", *parts)


def _dial(results: Results) -> Markup | None:
    if not results.dial or len(results.levels) < 2:
        return None
    charts = [
        chart
        for metric in results.metrics
        if (chart := figures.dial_chart(results, metric)) is not None
    ]
    if not charts:
        return None
    about = note(
        f"Means over seeds with their 95 % intervals; across: {results.dial}. The"
        " tests below see less noise than these bars: they go seed by seed."
    )
    grid = tag("div", *charts, class_="dials")
    return tag("div", about, figures.legend(results), grid)


def _comparisons(results: Results) -> Markup | None:
    if not results.pairs:
        return None
    about = note(
        "Differences are taken seed by seed, the method less its baseline, in points"
        " where the metric is in percent. p is of the paired t-test; Holm's correction"
        " is over all rows of a table. The sign-flip test is a check that assumes"
        f" less; with {words.plural(len(results.seeds), 'seed')} its p is"
        f" {2 / 2 ** len(results.seeds):.3g} at best."
    )
    parts = []
    for i, metric in enumerate(results.metrics):
        tables = [comparison_table(results, comparisons(results, metric))]
        changes = interactions(results, metric)
        if changes:
            low, high = reading.dial_ends(results)
            title = f"Change of the difference from {results.dial} {low} to {high}"
            tables += [tag("h4", title), comparison_table(results, changes)]
        head = tag("summary", tag("h3", metric.title))
        parts.append(tag("details", head, *tables, open="" if i == 0 else None))
    return tag("div", about, *parts)


def _curves(results: Results) -> Markup | None:
    known = {metric.name: metric.title for metric in results.metrics}
    kept = {name for run in results.runs.values() for name in run.curves}
    names = [name for name in known if name in kept] + sorted(kept - known.keys())
    parts = []
    for name in names:
        charts = figures.curve_charts(results, name)
        if charts:
            grid = tag("div", *charts, class_="charts")
            head = tag("summary", tag("h3", known.get(name, name)))
            parts.append(tag("details", head, grid, open=None if parts else ""))
    if not parts:
        return None
    about = note(
        "Lines are means over seeds, areas reach from the lowest seed to the highest."
    )
    return tag("div", about, figures.legend(results), *parts)


def _tree(tree: Mapping[str, Any]) -> Markup | None:
    rows = [[tag("code", key), value] for key, value in flatten(tree).items()]
    return table(("key", "value"), rows, class_="config") if rows else None


def _list(sentences: list[str]) -> Markup:
    return tag("ul", *(tag("li", text) for text in sentences), class_="reading")
