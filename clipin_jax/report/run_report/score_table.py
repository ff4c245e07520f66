"""All final scores of runs: a row for each, chance beside it, bars below."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.report.charts.intervals import look_of
from clipin_jax.report.components import fold, note, share_bar
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.run_history import FigureFormat, RunHistory
from clipin_jax.report.run_report.overview import run_names
from clipin_jax.report.run_report.scores import (
    BEST,
    ceiling_key,
    chance_key,
    clearly_best,
    figure_of,
    interval_text,
    last_value,
    score_keys,
    score_text,
)
from clipin_jax.report.tables import group_row, header_row, scrolling_table
from clipin_jax.report.text_format import NO_NUMBER, count_noun

STYLE = """
.scores td { min-width: 5.5rem }
.scores td small { display: block }
.chance { color: var(--soft) }
"""
_MOST_DETAILED = 8  # runs; with more, cells have neither bars nor intervals


def scores_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns the scores; a note if there are none."""
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
    return fold(f"{count_noun(len(keys), 'score')} of {evaluations}", about, shown)


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
