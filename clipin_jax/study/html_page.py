"""The HTML page of a study, self-contained; the conclusions come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipin_jax.report.components import chart_grid, columns, fold, note, wide_charts
from clipin_jax.report.document import document
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.tables import compare_trees, key_table
from clipin_jax.report.text_format import count_noun
from clipin_jax.storage import write_output
from clipin_jax.study import charts, conclusions
from clipin_jax.study.result_tables import (
    MARKS,
    comparison_table,
    cost_table,
    missing_table,
    score_table,
    seed_tables,
)
from clipin_jax.study.results import StudyResults
from clipin_jax.study.results_json import parse_results
from clipin_jax.study.statistics import comparisons, interactions

_UNFOLDED = 6  # sentences; more are folded
STYLE = """
.question { margin: 1.2rem 0 .2rem; font-size: 1.1rem; max-width: 46rem }
.conclusions { margin: 0; padding-left: 1.2rem; max-width: 52rem }
.conclusions li { margin: .3rem 0 }
.study td:first-child .note { min-width: 11rem }
.missing td:last-child { min-width: 14rem; overflow-wrap: anywhere }
.study .note { margin: 0; font-size: .78rem; text-align: inherit }
.good { color: var(--good) } .bad { color: var(--bad) }
"""


def write_html_page(results: Mapping[str, Any], path: Path) -> Path:
    """Writes the page of a study, which may be unfinished.

    Args:
      results: the content of results.json.
      path: the HTML file.

    Returns:
      The file's path.

    Raises:
      ClipinError: the results are wrong, or the page cannot be written.
    """
    return write_output(path, study_page(parse_results(results)))


def study_page(results: StudyResults) -> str:
    """Returns the page."""
    sections = {
        "Conclusions": _conclusions(results),
        "Scores": _scores(results),
        "Along the dial": _dial(results),
        "Comparisons": _comparisons(results),
        "Methods and cost": cost_table(results),
        "Training curves": _curves(results),
        "Missing scores": missing_table(results),
        "Values of each seed": seed_tables(results),
        "Settings": key_table(compare_trees([results.settings]), ("value",)),
        "Environment": key_table(compare_trees([results.environment]), ("value",)),
    }
    question = tag("p", results.question, class_="question")
    lead = tag("div", question, note(_progress(results)))
    return document(results.title, sections, lead, STYLE, kind="Study")


def _progress(results: StudyResults) -> str:
    grid = [count_noun(len(results.methods), "method")]
    if results.dial:
        grid.append(f"{count_noun(len(results.levels), 'level')} of {results.dial}")
    grid.append(count_noun(len(results.seeds), "seed"))
    total, done = len(list(results.planned_runs)), len(results.runs)
    state = "all have run" if done == total else f"{done} of them have run"
    return f"{' × '.join(grid)} = {count_noun(total, 'run')}, {state}."


def _conclusions(results: StudyResults) -> Markup:
    summary = _list(conclusions.summary(results))
    details = conclusions.details(results)
    if not details:
        return summary
    head = f"Each comparison in {results.primary.label}"
    unfolded = len(details) <= _UNFOLDED
    return tag("div", summary, fold(head, _list(details), unfolded=unfolded))


def _scores(results: StudyResults) -> Markup:
    about = note(
        "Mean over seeds ± half of its 95 % interval. "
        "Bold: the best mean of a column, shown to be best or not."
        f" {MARKS['above']} above and {MARKS['below']} below the method's baseline,"
        " tested seed by seed and corrected by Holm within the metric."
    )
    if not results.dial:
        chosen = [(m, level) for m in results.metrics for level in results.levels]
        return tag("div", about, score_table(results, chosen))
    tables = (
        tag(
            "div",
            tag("h3", metric.title),
            score_table(results, [(metric, level) for level in results.levels]),
        )
        for metric in results.metrics
    )
    return tag("div", about, columns(tables))


def _dial(results: StudyResults) -> Markup | None:
    if not results.dial or len(results.levels) < 2:
        return None
    charts_of_metrics = (charts.dial_chart(results, m) for m in results.metrics)
    dials = [chart for chart in charts_of_metrics if chart is not None]
    if not dials:
        return None
    about = note(
        f"Means over seeds with their 95 % intervals; across: {results.dial}. The"
        " tests below are seed by seed: they have less noise than these bars."
    )
    return tag("div", about, charts.legend(results), wide_charts(dials))


def _comparisons(results: StudyResults) -> Markup | None:
    if not results.pairs:
        return None
    least = 2 / 2 ** len(results.seeds)
    about = note(
        "Differences are taken seed by seed, the method minus its baseline, in points"
        " where the metric is in percent. p is of the paired t-test; Holm's correction"
        " is over all rows of a table. The sign-flip test is a check that assumes"
        f" less; with {count_noun(len(results.seeds), 'seed')} its p is {least:.3g} at"
        " best."
    )
    folds = []
    for i, metric in enumerate(results.metrics):
        tables = [comparison_table(results, comparisons(results, metric))]
        changes = interactions(results, metric)
        if changes:
            low, high = conclusions.dial_ends(results)
            title = f"Change of the difference from {results.dial} {low} to {high}"
            tables += [tag("h4", title), comparison_table(results, changes)]
        folds.append(fold(tag("h3", metric.title), *tables, unfolded=i == 0))
    return tag("div", about, *folds)


def _curves(results: StudyResults) -> Markup | None:
    titles = {metric.name: metric.title for metric in results.metrics}
    saved = {name for run in results.runs.values() for name in run.curves}
    names = [name for name in titles if name in saved] + sorted(saved - titles.keys())
    folds = []
    for name in names:
        curves = charts.curve_charts(results, name)
        if curves:
            head = tag("h3", titles.get(name, name))
            folds.append(fold(head, chart_grid(curves), unfolded=not folds))
    if not folds:
        return None
    about = note(
        "Lines are means over seeds; areas reach from the lowest seed to the highest."
    )
    return tag("div", about, charts.legend(results), *folds)


def _list(sentences: Sequence[str]) -> Markup:
    items = (tag("li", sentence) for sentence in sentences)
    return tag("ul", *items, class_="conclusions")
