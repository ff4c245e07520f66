"""Tables about runs: what they reached and cost, configs, environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipin_jax.report.components import fold, note
from clipin_jax.report.markup import Markup, breakable, join, tag
from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.run_report.labels import MOST_COLUMNS, columns_note, run_names
from clipin_jax.report.run_report.scores import (
    BEST,
    chance_key,
    clearly_best,
    figure_of,
    interval_text,
    last_value,
    leading_scores,
    score_keys,
    score_text,
)
from clipin_jax.report.tables import Cell, compare_trees, key_table, table
from clipin_jax.report.text_format import (
    NO_NUMBER,
    count_noun,
    format_duration,
    format_number,
)
from clipin_jax.runs.goodput import NAMES, read_goodput

STYLE = """
.runs small { display: block }
.runs thead th { max-width: 9rem }
@media (min-width: 40rem) { .runs td:first-child wbr { display: none } }
"""
_COSTS = ("steps", "images/s", "wall time", "parameters")


def runs_table(
    runs: Sequence[RunHistory], leading: Sequence[str] | None = None
) -> Markup:
    """Returns a row for each run: the leading scores, and what they cost.

    leading: keys of scores; None for `leading_scores`.
    """
    leading = leading_scores(runs) if leading is None else leading
    mfu = [_median(run, "train/mfu") for run in runs]
    more = ("MFU",) if any(x is not None for x in mfu) else ()
    head = ("run", *(_score_head(runs, key) for key in leading), *_COSTS, *more)
    best = {key: clearly_best(runs, key) for key in leading}
    rows = []
    for index, (label, run) in enumerate(zip(run_names(runs), runs, strict=True)):
        scores = (_score_cell(run, key, best=best[key] == index) for key in leading)
        share = mfu[index]
        used = Cell(NO_NUMBER if share is None else f"{share:.1%}", share)
        costs = [*_costs(run), used][: len(_COSTS) + len(more)]
        rows.append([Cell(label, run.label), *scores, *costs])
    about = note(_about(runs, leading, mfu=bool(more)))
    shown = table(head, rows, class_="runs numbers", sortable=len(runs) > 1)
    return tag("div", about, shown)


def goodput_table(runs: Sequence[RunHistory]) -> Markup | None:
    """Returns where the wall time of each run went; None if it was not counted."""
    rows = []
    for label, run in zip(run_names(runs), runs, strict=True):
        if summary := read_goodput(run.folder):
            total = sum(summary.seconds.values())
            shares = (Cell(f"{share:.0%}", share) for share in summary.shares.values())
            starts = Cell(summary.starts, summary.starts)
            time = Cell(format_duration(total), total)
            rows.append([Cell(label, run.label), starts, time, *shares])
    if not rows:
        return None
    head = ("run", "starts", "wall time", *NAMES.values())
    about = note(
        "Shares of the wall time, from the first start to the last line. Goodput is the"
        " share of the steps that count."
    )
    shown = table(head, rows, class_="numbers", sortable=len(rows) > 1)
    return tag("div", about, shown)


def environment_table(runs: Sequence[RunHistory]) -> Markup | None:
    """Returns versions and machines, differences first; None if unknown."""
    values = compare_trees(run.environment for run in runs[:MOST_COLUMNS])
    return _differences_first(values, runs, unfolded=False) if values else None


def configs_section(runs: Sequence[RunHistory]) -> Markup:
    """Returns the keys in which the configs differ, then the others, folded."""
    values = compare_trees(run.config for run in runs[:MOST_COLUMNS])
    return _differences_first(values, runs, unfolded=True)


def _differences_first(
    values: Mapping[str, list[str]], runs: Sequence[RunHistory], *, unfolded: bool
) -> Markup:
    different = {key: texts for key, texts in values.items() if len(set(texts)) > 1}
    same = {key: texts[:1] for key, texts in values.items() if key not in different}
    rest = key_table(same, ("value",))
    if len(runs) == 1:
        return fold(count_noun(len(same), "value"), rest)
    differences = key_table(different, run_names(runs[:MOST_COLUMNS]))
    head = f"{count_noun(len(different), 'difference')}"
    return tag(
        "div",
        columns_note(runs),
        note("The runs have the same values.")
        if differences is None
        else fold(head, differences, unfolded=unfolded),
        fold(f"{count_noun(len(same), 'value')} that all runs share", rest),
    )


def _about(runs: Sequence[RunHistory], leading: Sequence[str], *, mfu: bool) -> str:
    """Returns what the small print and the marks of the table mean."""
    parts = []
    if any(figure.trials for run in runs for key, figure in run.figures.items()
           if key in leading):  # fmt: skip
        parts.append(
            "Below a score: its 95 % Wilson interval, for other images and texts of the"
            " same kind; it leaves out the spread between seeds."
        )
        if len(runs) > 1:
            parts.append(f"{BEST}: the interval lies beyond those of all other runs.")
    elif leading:
        parts.append("These scores have no interval: nothing is marked as best.")
    if more := len(score_keys(runs)) - len(leading):
        parts.append(f"{count_noun(more, 'other score')} below.")
    parts.append("images/s is the median over the log.")
    if mfu:
        parts.append(
            "MFU, model FLOPs utilization: the share of the devices' peak that the"
            " arithmetic of the model uses."
        )
    return " ".join(parts)


def _score_head(runs: Sequence[RunHistory], key: str) -> Markup:
    chance, figure = last_value(runs, chance_key(key)), figure_of(runs, key)
    beside = None
    if chance is not None:
        beside = tag("small", f"chance {score_text(figure, chance)}")
    return join([breakable(key), beside])


def _score_cell(run: RunHistory, key: str, *, best: bool) -> Cell:
    points = run.series.get(key)
    if not points:
        return Cell(NO_NUMBER, None)
    value, figure = points[max(points)], run.figures.get(key)
    text = score_text(figure, value)
    shown = tag("b", f"{BEST} {text}") if best else text
    return Cell(tag("span", shown, interval_text(figure, value)), value)


def _costs(run: RunHistory) -> list[Cell]:
    speed = _median(run, "train/images_per_second")
    total, count = run.total_steps, run.parameters
    steps = f"{run.last_step:,} of {total:,}" if total else f"{run.last_step:,}"
    state = tag("small", "finished" if run.finished else "not finished")
    return [
        Cell(tag("span", steps, state), run.last_step),
        Cell(NO_NUMBER if speed is None else format_number(speed), speed),
        Cell(format_duration(run.seconds), run.seconds),
        Cell(NO_NUMBER if count is None else f"{count / 1e6:.1f}M", count),
    ]


def _median(run: RunHistory, key: str) -> float | None:
    """Returns the median of a metric: a slow first step has no effect."""
    points = sorted(run.series.get(key, {}).values())
    return points[len(points) // 2] if points else None
