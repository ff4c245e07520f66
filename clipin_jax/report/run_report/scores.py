"""The final scores of runs: a row for each figure, chance beside it, bars below."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.report.components import colour_class, note
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import FigureFormat, RunHistory
from clipin_jax.report.run_report.overview import run_names
from clipin_jax.report.tables import group_row, header_row, scrolling_table
from clipin_jax.report.text_format import NO_NUMBER

STYLE = """
.scroll:has(.scores) { width: fit-content; max-width: 100% }
.scores { width: auto; min-width: min(44rem, 90vw) }
.scores thead th:nth-child(n+2), .number { text-align: right }
.number { white-space: nowrap; min-width: 5.5rem }
.chance, .chance * { color: var(--soft) }
.bar { position: relative; display: block; height: 3px; margin-top: 2px;
  border-radius: 2px; background: var(--grid) }
.bar i { position: absolute; top: 0; height: 3px }
.fill { left: 0; border-radius: 2px; background: var(--run); opacity: .8 }
.bar .mark { top: -2px; width: 1px; height: 7px; background: var(--soft) }
@media (max-width: 40rem) { .number { min-width: 4.4rem } }
"""


def scores_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns the scores; a note if there are none."""
    scores = [run.final_scores() for run in runs]
    keys = dict.fromkeys(key for final in scores for key in final)
    keys = [key for key in keys if is_score(key)]
    if not keys:
        return note("No evaluation has run yet.")
    bodies = []
    for name in dict.fromkeys(key.split("/")[0] for key in keys):
        rows = [
            _score_row(key, scores, figure_of(runs, key))
            for key in keys
            if key.split("/")[0] == name
        ]
        bodies.append(tag("tbody", group_row(name, len(runs) + 2), *rows))
    about = note(
        "Scores of the last evaluation of each run, the best in bold. The bar shows"
        " the score, the mark on it chance. Ties count against the model."
    )
    head = header_row(("", "chance", *run_names(runs)))
    return tag("div", about, scrolling_table(head, *bodies, class_="scores"))


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


def _score_row(
    key: str, scores: Sequence[dict[str, float]], figure: FigureFormat | None
) -> Markup:
    values = [final.get(key) for final in scores]
    chance = _first_value(scores, chance_key(key))
    ceiling = _first_value(scores, ceiling_key(key))
    best = _best(figure, [value for value in values if value is not None])
    cells = []
    for index, value in enumerate(values):
        if value is None:
            cells.append(tag("td", NO_NUMBER, class_="number"))
            continue
        text = tag("b" if value == best else "span", _score_text(figure, value))
        bar = _bar(figure, value, chance)
        cells.append(tag("td", text, bar, class_=f"number {colour_class(index)}"))
    beside = "" if chance is None else _score_text(figure, chance)
    if ceiling is not None:
        beside = f"{beside} at most {_score_text(figure, ceiling)}".strip()
    return tag(
        "tr",
        tag("th", key.partition("/")[2].replace("_", " "), scope="row"),
        tag("td", beside, class_="number chance"),
        *cells,
    )


def _first_value(scores: Sequence[dict[str, float]], key: str) -> float | None:
    return next((final[key] for final in scores if key in final), None)


def _score_text(figure: FigureFormat | None, value: float) -> str:
    if figure is not None:
        return figure.text(value)
    return f"{value:.3f}" if 0 <= value <= 1 else f"{value:g}"


def _best(figure: FigureFormat | None, values: Sequence[float]) -> float | None:
    """Returns the best value; None if all are equal or neither end is better."""
    if figure is None or len(set(values)) < 2:
        return None
    return min(values) if figure.lower_is_better else max(values)


def _bar(
    figure: FigureFormat | None, value: float, chance: float | None
) -> Markup | None:
    """Returns a share as a bar with a mark at chance; None for other scores."""
    if figure is None or figure.lower_is_better or not 0 <= value <= 1:
        return None
    mark = None
    if chance is not None:
        mark = tag("i", class_="mark", style=f"left:{100 * chance:.1f}%")
    fill = tag("i", class_="fill", style=f"width:{100 * value:.1f}%")
    return tag("span", fill, mark, class_="bar")
