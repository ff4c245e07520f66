"""The HTML page of a sweep, self-contained; the best point comes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipin_jax.report.charts.lines import Line, line_chart
from clipin_jax.report.components import chart_grid, colour_label, legend, note
from clipin_jax.report.document import document
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.style import COLOURS
from clipin_jax.report.tables import key_table, scrolling_table, table
from clipin_jax.report.text_format import count_noun, format_duration
from clipin_jax.storage import write_output
from clipin_jax.sweep.definition import Sweep, best_command, shorten_key
from clipin_jax.sweep.outcomes import (
    DONE,
    Point,
    count_states,
    pareto_front,
    ranked,
)
from clipin_jax.sweep.pages.importance import importance
from clipin_jax.sweep.pages.parallel import STYLE as PARALLEL
from clipin_jax.sweep.pages.parallel import parallel_coordinates

_BEST = "★"
STYLE = (
    PARALLEL
    + """
.last { display: none }
.curves .charts { grid-template-columns: minmax(0, 34rem) }
.command { padding: .6rem .8rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; overflow-wrap: anywhere; white-space: normal; font-size: .85rem }
.points th { cursor: pointer; white-space: nowrap }
.points td { white-space: nowrap }
.points td:last-child { white-space: normal; min-width: 12rem; overflow-wrap: anywhere }
.bar { display: inline-block; height: .7rem; background: var(--c0); border-radius: 2px }
"""
)
# Sorts the rows of a table by the column whose head is clicked.
_SORT = """
document.querySelectorAll(".points th").forEach((head, column) => {
  head.onclick = () => {
    const body = head.closest("table").tBodies[0], down = head.dataset.down !== "1";
    head.dataset.down = down ? "1" : "0";
    const value = row => row.cells[column].dataset.v;
    const order = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    [...body.rows].sort((a, b) => order(value(a), value(b)) * (down ? 1 : -1))
      .forEach(row => body.append(row));
  };
});
"""


def write_page(sweep: Sweep, points: Sequence[Point], path: Path) -> Path:
    """Writes the page of a sweep, which may be unfinished; returns its path.

    Raises:
      ClipinError: the page cannot be written.
    """
    return write_output(path, sweep_page(sweep, points))


def sweep_page(sweep: Sweep, points: Sequence[Point]) -> str:
    """Returns the page."""
    sections = {
        "Best point": _best(sweep, points),
        "Points": _points(sweep, points),
        "Parallel coordinates": _parallel(sweep, points),
        "Importance": _importance(sweep, points),
        "Learning curves": _curves(sweep, points),
        "Sweep": _facts(sweep),
    }
    lead = note(
        f"{count_noun(len(points), 'point')}: {count_states(points) or 'none'}."
    )
    return document(f"Sweep of {sweep.name}", sections, lead, STYLE)


def _best(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    done = ranked(sweep, points)
    if not done:
        return None
    best = done[0]
    values = zip(sweep.goals, best.values, strict=True)
    shown = ", ".join(f"{goal.metric} {goal.text(value)}" for goal, value in values)
    seeds = f", mean of {sweep.seeds} seeds" if sweep.seeds > 1 else ""
    settings = table((), [[tag("code", k), v] for k, v in best.assignment.items()])
    chosen = ""
    if len(points) > 1:
        chosen = (
            f" It is the best of {len(done)}, so its score is too good on average: "
            "score it anew on other data or seeds."
        )
    return tag(
        "div",
        tag("p", tag("b", f"Point {best.number}"), f": {shown}{seeds}.{chosen}"),
        settings,
        tag("p", "This trains it again:"),
        tag("pre", best_command(sweep, best.assignment), class_="command"),
    )


def _points(sweep: Sweep, points: Sequence[Point]) -> Markup:
    keys = list(sweep.space.axes)
    front = pareto_front(sweep, points)
    heads = [
        "point",
        *(breakable(shorten_key(key)) for key in keys),
        *(breakable(goal.metric) for goal in sweep.goals),
        "time", "state", "remark",
    ]  # fmt: skip
    first = ranked(sweep, points)
    rest = [point for point in points if point not in first]
    rows = [_row(sweep, point, keys, point in front) for point in [*first, *rest]]
    head = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in heads)))
    about = note(
        f"Click a column to sort by it. {_BEST}: "
        + (
            "the best."
            if len(sweep.goals) < 2
            else "no other is better in both metrics."
        )
    )
    rows_table = scrolling_table(head, tag("tbody", *rows), class_="points")
    return tag("div", about, rows_table, tag("script", Markup(_SORT)))


def _row(sweep: Sweep, point: Point, keys: Sequence[str], front: bool) -> Markup:
    def cell(shown: object, value: object) -> Markup:
        return tag("td", shown, data_v=value)

    scores = []
    for goal, value in zip(sweep.goals, point.values, strict=True):
        text = goal.text(value)
        scores.append(cell(tag("b", text) if front else text, _sortable(value)))
    return tag(
        "tr",
        cell(f"{point.number} {_BEST * front}", point.number),
        *(cell(point.assignment[key], point.assignment[key]) for key in keys),
        *scores,
        cell(format_duration(point.seconds), point.seconds),
        cell(point.state, point.state),
        cell(point.reason, point.reason),
    )


def _sortable(value: float | None) -> float:
    return float("-1e300") if value is None else value


def _parallel(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    chart = parallel_coordinates(sweep, points)
    if chart is None:
        return None
    about = note(
        "A line for each point that is done, the better the bluer; the best is orange."
    )
    return tag("div", about, chart)


def _importance(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    found = importance(sweep, points)
    if found is None:
        return None
    shares = sorted(found.shares.items(), key=lambda item: -item[1])
    rows = [
        [tag("code", key), f"{share:.2f}", _bar(share / max(shares[0][1], 1e-9))]
        for key, share in shares
    ]
    about = note(
        f"How much each key matters for {sweep.goals[0].metric}: {found.method}."
    )
    return tag("div", about, table(("key", "importance", ""), rows))


def _bar(share: float) -> Markup:
    return tag("span", "", class_="bar", style=f"width:{10 * share:.1f}rem")


def _curves(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    """Returns the curves of the best points, those that were stopped among them."""
    goal = sweep.goals[0]
    drawn = [point for point in points if len(point.curve) > 1]
    drawn.sort(key=lambda p: (p.state != DONE, goal.loss(p.curve[-1][1])))
    drawn = drawn[:COLOURS]
    if not drawn:
        return None
    labels = [
        f"{p.number}: " + ", ".join(f"{shorten_key(k)}={v}" for k, v in _items(p))
        for p in drawn
    ]
    lines = []
    for colour, (point, label) in enumerate(zip(drawn, labels, strict=True)):
        steps, values = np.array(point.curve, float).T
        lines.append(Line(label, colour, steps, values))
    names = (colour_label(label, i) for i, label in enumerate(labels))
    more = len([p for p in points if len(p.curve) > 1]) - len(drawn)
    left_out = f" {more} more are not drawn." if more else ""
    about = note(f"The best points, and those that came far.{left_out}")
    chart = chart_grid([line_chart(goal.metric, lines)])
    return tag("div", about, legend(names), chart, class_="curves")


def _items(point: Point) -> list[tuple[str, str]]:
    return list(point.assignment.items())


def _facts(sweep: Sweep) -> Markup | None:
    facts: dict[str, list[object]] = {
        "config": [sweep.spec],
        "for all points": [", ".join(sweep.space.fixed) or "–"],
        "metric": [", ".join(goal.name for goal in sweep.goals)],
        "method": [sweep.method],
        "seeds": [sweep.seeds],
        "stops bad runs": [sweep.prune or "no"],
        "schedule": [sweep.schedule],
    }
    return key_table(facts, ("value",))
