"""The scores of runs: all in one table; which lead, their intervals, which is best."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clipin_jax.errors import ClipinError, first_few
from clipin_jax.report.charts.intervals import look_of
from clipin_jax.report.components import fold, note, share_bar
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.run_history import FigureFormat, RunHistory
from clipin_jax.report.run_report.labels import MOST_COLUMNS, columns_note, run_names
from clipin_jax.report.tables import group_row, header_row, scrolling_table
from clipin_jax.report.text_format import NO_NUMBER, count_noun

STYLE = """
.scores td { min-width: 5.5rem }
.scores td small { display: block }
.chance { color: var(--soft) }
"""
_MOST_DETAILED = 8  # runs; with more, cells have neither bars nor intervals
BEST = "★"
_MOST_LEADING = 6  # scores that lead without being asked for


def scores_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns the scores; a note if there are none."""
    left_out, runs = columns_note(runs), runs[:MOST_COLUMNS]
    keys = score_keys(runs)
    if not keys:
        return note("No evaluation has run yet.")
    bodies = []
    for name in dict.fromkeys(key.split("/")[0] for key in keys):
        rows = [_row(runs, key) for key in keys if key.split("/")[0] == name]
        bodies.append(tag("tbody", group_row(name, len(runs) + 2), *rows))
    about = note(
        "Scores of the last evaluation of each run. The bar shows the score, the mark"
        " on it chance. Ties count against the model."
    )
    head = header_row(("", "chance", *run_names(runs)))
    shown = scrolling_table(head, *bodies, class_="scores numbers")
    evaluations = count_noun(len(bodies), "evaluation")
    return fold(
        f"{count_noun(len(keys), 'score')} of {evaluations}", about, left_out, shown
    )


def is_score(key: str) -> bool:
    """Whether a value is a score, and not the chance level or ceiling of one."""
    return not key.partition("/")[2].startswith(("chance/", "ceiling/"))


def chance_key(key: str) -> str:
    """Returns the key of the chance level of a score."""
    name, _, figure = key.partition("/")
    return f"{name}/chance/{figure}"


def ceiling_key(key: str) -> str:
    """Returns the key of the best value that any model can reach."""
    name, _, figure = key.partition("/")
    return f"{name}/ceiling/{figure}"


def figure_of(runs: Sequence[RunHistory], key: str) -> FigureFormat | None:
    """Returns how a score is shown; None if it is unknown."""
    return next((run.figures[key] for run in runs if key in run.figures), None)


def score_keys(runs: Sequence[RunHistory]) -> list[str]:
    """Returns all scores that any run has, in the order of the evaluations."""
    keys = dict.fromkeys(key for run in runs for key in run.final_scores())
    return [key for key in keys if is_score(key)]


def leading_scores(runs: Sequence[RunHistory], show: str | None = None) -> list[str]:
    """Returns the scores that stand at the top of a page.

    Without `show` these are, of each evaluation, the headline scores that have an
    interval, or its first one if none has. If no evaluation says which those are, it is
    the first score of each.

    show: a regular expression; the scores that it finds, if there are any.
    """
    keys = score_keys(runs)
    asked = [key for key in keys if show and re.search(show, key)]
    if asked:
        return asked
    leading = []
    for name in dict.fromkeys(key.split("/")[0] for key in keys):
        own = [key for key in keys if key.split("/")[0] == name]
        figures = {key: figure_of(runs, key) for key in own}
        heads = [k for k, figure in figures.items() if figure and figure.headline]
        counted = [k for k in heads if (figure := figures[k]) and figure.trials]
        leading += counted or heads[:1] or [k for k in own if figures[k]][:1] or own[:1]
    return leading[:_MOST_LEADING]


def check_pattern(runs: Sequence[RunHistory], show: str | None) -> None:
    """Raises ClipinError if `show` is no regular expression, or finds no metric."""
    if show is None:
        return
    keys = dict.fromkeys(key for run in runs for key in run.series if is_score(key))
    try:
        found = any(re.search(show, key) for key in keys)
    except re.error as error:
        raise ClipinError(f"--show {show} is no regular expression: {error}") from error
    if not found:
        known = first_few(sorted(keys)) or "none yet"
        raise ClipinError(f"--show {show} finds no metric of these runs: {known}")


def last_value(runs: Sequence[RunHistory], key: str) -> float | None:
    """Returns the last value of a key in the first run that has it."""
    found = (run.series[key] for run in runs if run.series.get(key))
    return next((points[max(points)] for points in found), None)


def score_text(figure: FigureFormat | None, value: float) -> str:
    """Returns a score as its evaluator shows it."""
    if figure is not None:
        return figure.text(value)
    return f"{value:.3f}" if 0 <= value <= 1 else f"{value:g}"


def interval_text(figure: FigureFormat | None, value: float) -> Markup | None:
    """Returns the interval of a score in small type; None without one."""
    interval = None if figure is None else figure.interval(value)
    if figure is None or interval is None:
        return None
    low, high = map(figure.text, interval)
    return tag("small", f"{low.removesuffix('%')}–{high}")


def clearly_best(runs: Sequence[RunHistory], key: str) -> int | None:
    """Returns the number of the run whose interval lies beyond those of all others.

    None if there is no such run, a run lacks the score, or there is only one run.
    Intervals that do not overlap are a stricter demand than a test of the difference.
    """
    intervals = []
    for run in runs:
        figure, points = run.figures.get(key), run.series.get(key)
        if figure is None or not points:
            return None
        value = points[max(points)]
        # Higher is better from here on.
        sign = -1.0 if figure.lower_is_better else 1.0
        interval = figure.interval(value)
        if interval is None:
            return None
        intervals.append(sorted(sign * x for x in interval))
    if len(intervals) < 2:
        return None
    best = max(range(len(intervals)), key=lambda i: intervals[i][0])
    others = [high for i, (_, high) in enumerate(intervals) if i != best]
    return best if intervals[best][0] > max(others) else None


def _row(runs: Sequence[RunHistory], key: str) -> Markup:
    figure, chance = figure_of(runs, key), last_value(runs, chance_key(key))
    ceiling = last_value(runs, ceiling_key(key))
    best = clearly_best(runs, key)
    cells = []
    for index, run in enumerate(runs):
        points = run.series.get(key)
        if not points:
            cells.append(tag("td", NO_NUMBER))
            continue
        value = points[max(points)]
        text = score_text(figure, value)
        shown = tag("b", f"{BEST} {text}") if index == best else text
        detail = None
        if len(runs) <= _MOST_DETAILED:
            own = run.figures.get(key)
            detail = tag("span", interval_text(own, value), _bar(figure, value, chance))
        class_ = look_of(index).class_
        cells.append(tag("td", shown, detail, class_=class_))
    beside = "" if chance is None else score_text(figure, chance)
    if ceiling is not None:
        beside = f"{beside} at most {score_text(figure, ceiling)}".strip()
    name = tag("th", breakable(key.partition("/")[2]), scope="row")
    return tag("tr", name, tag("td", beside, class_="chance"), *cells)


def _bar(
    figure: FigureFormat | None, value: float, chance: float | None
) -> Markup | None:
    """Returns a share as a bar with a mark at chance; None for other scores."""
    if figure is None or figure.lower_is_better or not 0 <= value <= 1:
        return None
    return share_bar(value, chance)
