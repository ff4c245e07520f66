"""The HTML page of a sweep, self-contained; the best point comes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipin_jax.report.charts.axes import LARGE
from clipin_jax.report.charts.intervals import look_of, series_label
from clipin_jax.report.charts.lines import Line, line_chart
from clipin_jax.report.components import legend, note, share_bar, wide_charts
from clipin_jax.report.document import document
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.style import COLOURS
from clipin_jax.report.tables import Cell, key_table, table
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
.command { padding: .6rem .8rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; overflow-wrap: anywhere; white-space: normal; font-size: .85rem }
.points .remark { display: block; min-width: 12rem; text-align: left;
  white-space: normal; overflow-wrap: anywhere }
.importance .bar { width: min(10rem, 22vw); height: .7rem }
"""
)


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
    return document(sweep.name, sections, lead, STYLE, kind="Sweep")


def _best(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    done = ranked(sweep, points)
    if not done:
        return None
    best = done[0]
    values = zip(sweep.goals, best.values, strict=True)
    shown = ", ".join(f"{goal.metric} {goal.text(value)}" for goal, value in values)
    seeds = f", mean of {sweep.seeds} seeds" if sweep.seeds > 1 else ""
    rows = ([tag("code", key), value] for key, value in best.assignment.items())
    settings = table((), rows, class_="numbers")
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
        "time",
        "state",
        *(["remark"] if any(point.reason for point in points) else []),
    ]
    first = ranked(sweep, points)
    rest = [point for point in points if point not in first]
    rows = [
        _row(sweep, point, keys, point in front)[: len(heads)]
        for point in [*first, *rest]
    ]
    best = "first by the metric, which is no test"
    if len(sweep.goals) > 1:
        best = "no other is better in both metrics"
    shown = table(heads, rows, class_="points numbers", sortable=True)
    return tag("div", note(f"{_BEST}: {best}."), shown)


def _row(sweep: Sweep, point: Point, keys: Sequence[str], front: bool) -> list[Cell]:
    scores = []
    for goal, value in zip(sweep.goals, point.values, strict=True):
        text = goal.text(value)
        scores.append(Cell(tag("b", text) if front else text, value))
    return [
        Cell(f"{point.number} {_BEST * front}", point.number),
        *(Cell(point.assignment[key], point.assignment[key]) for key in keys),
        *scores,
        Cell(format_duration(point.seconds), point.seconds),
        Cell(point.state, point.state),
        Cell(tag("span", point.reason, class_="remark"), point.reason or None),
    ]


def _parallel(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    chart = parallel_coordinates(sweep, points)
    if chart is None:
        return None
    about = note(
        "A line for each point that is done, the better the bluer; the best is thick"
        " and orange."
    )
    return tag("div", about, chart)


def _importance(sweep: Sweep, points: Sequence[Point]) -> Markup | None:
    found = importance(sweep, points)
    if found is None:
        return None
    shares = sorted(found.shares.items(), key=lambda item: -item[1])
    rows = [
        [tag("code", key), f"{share:.2f}", share_bar(share / max(shares[0][1], 1e-9))]
        for key, share in shares
    ]
    about = note(
        f"How much each key matters for {sweep.goals[0].metric}: {found.method}."
    )
    head = ("key", "importance", "")
    return tag("div", about, table(head, rows, class_="importance numbers"))


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
        look = look_of(colour)
        lines.append(Line(label, look.colour, steps, values, style=look.style))
    names = (series_label(label, look_of(i)) for i, label in enumerate(labels))
    more = len([p for p in points if len(p.curve) > 1]) - len(drawn)
    left_out = f" {more} more are not drawn." if more else ""
    about = note(f"The best points, and those that came far.{left_out}")
    chart = wide_charts([line_chart(goal.metric, lines, size=LARGE)])
    return tag("div", about, legend(names), chart)


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
