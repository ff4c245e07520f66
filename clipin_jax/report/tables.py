"""The page's tables: runs, scores, configs, environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clipin_jax.report.charts import COLOURS, format_number
from clipin_jax.report.markup import Markup, breakable, tag
from clipin_jax.report.run import Run, flatten

LOWER_IS_BETTER = ("median_rank",)  # all other figures are better when higher
NO_CONTEST = ("classes_left_out", "strength")  # neither end is better


def name_of(run: Run, position: int) -> Markup:
    """A run's label, in its colour."""
    swatch = tag("i", class_=f"swatch c{position % COLOURS}")
    return tag("span", swatch, tag("span", breakable(run.label)), class_="run")


def runs_table(runs: list[Run]) -> Markup:
    """What each run is and how far it came."""
    head = ("run", "config", "progress", "state", "batch", "images/s", "time")
    rows = []
    for position, run in enumerate(runs):
        total = run.config.get("total_steps")
        rows.append(
            [
                name_of(run, position),
                run.config.get("name", ""),
                f"{run.last_step:,} of {total:,}" if total else f"{run.last_step:,}",
                "finished" if run.finished else "not finished",
                run.config.get("batch_size", ""),
                _speed(run),
                _duration(run.seconds),
            ]
        )
    return table(head, rows)


def scores_table(runs: list[Run]) -> Markup | None:
    """Final scores, chance beside each, the best in bold; None without any."""
    scores = [run.final_scores() for run in runs]
    keys = dict.fromkeys(key for final in scores for key in final)
    figures = [key for key in keys if "/chance/" not in key]
    if not figures:
        return None
    bodies = []
    for name in dict.fromkeys(key.split("/")[0] for key in figures):
        rows = [_heading(name, len(runs) + 2)]
        for key in figures:
            if key.split("/")[0] == name:
                rows.append(_score_row(key, scores))
        bodies.append(tag("tbody", *rows))
    head = ("", "chance", *(name_of(run, i) for i, run in enumerate(runs)))
    table = tag("table", _head(head), *bodies, class_="scores")
    return tag("div", table, class_="scroll")


def differences_table(runs: list[Run]) -> Markup | None:
    """Config keys that are not the same in all runs; None when all are."""
    return _compare(runs, [flatten(run.config) for run in runs], only_different=True)


def environment_table(runs: list[Run]) -> Markup | None:
    """Versions and machines, a column a run; None when nothing is known."""
    trees = [flatten(run.environment) for run in runs]
    return _compare(runs, trees, only_different=False)


def config_table(run: Run) -> Markup:
    """All of a run's config."""
    rows = [[tag("code", k), _value(v)] for k, v in flatten(run.config).items()]
    return table(("key", "value"), rows, class_="config")


def _score_row(key: str, scores: list[dict[str, float]]) -> Markup:
    name, _, figure = key.partition("/")
    chance_key = f"{name}/chance/{figure}"
    chance = next((final[chance_key] for final in scores if chance_key in final), None)
    values = [final.get(key) for final in scores]
    best = _best(figure, [value for value in values if value is not None])
    cells = []
    for position, value in enumerate(values):
        if value is None:
            cells.append(tag("td", "–", class_="number"))
            continue
        text = tag("b" if value == best else "span", format_score(figure, value))
        bar = _bar(figure, value, chance)
        colour = f"number c{position % COLOURS}"
        cells.append(tag("td", text, bar, class_=colour))
    beside = "" if chance is None else format_score(figure, chance)
    return tag(
        "tr",
        tag("th", figure.replace("_", " "), scope="row"),
        tag("td", beside, class_="number chance"),
        *cells,
    )


def format_score(figure: str, value: float) -> str:
    """Three decimals for shares, as many as are needed for the rest."""
    return f"{value:.3f}" if _is_share(figure, value) else f"{value:g}"


def _is_share(figure: str, value: float) -> bool:
    return not figure.endswith((*LOWER_IS_BETTER, *NO_CONTEST)) and 0 <= value <= 1


def _best(figure: str, values: list[float]) -> float | None:
    """The value to stand out: none where there is no contest, or no difference."""
    if figure.endswith(NO_CONTEST) or len(set(values)) < 2:
        return None
    return min(values) if figure.endswith(LOWER_IS_BETTER) else max(values)


def _bar(figure: str, value: float, chance: float | None) -> Markup | None:
    """A share as a bar, with a mark where chance is."""
    if not _is_share(figure, value):
        return None
    mark = None
    if chance is not None:
        mark = tag("i", class_="mark", style=f"left:{100 * chance:.1f}%")
    fill = tag("i", class_="fill", style=f"width:{100 * value:.1f}%")
    return tag("span", fill, mark, class_="bar")


def _compare(
    runs: list[Run], trees: list[dict[str, Any]], *, only_different: bool
) -> Markup | None:
    rows = []
    for key in dict.fromkeys(key for tree in trees for key in tree):
        values = [_value(tree[key]) if key in tree else "–" for tree in trees]
        if not only_different or len(set(values)) > 1:
            rows.append([tag("code", key), *values])
    head = ("key", *(name_of(run, i) for i, run in enumerate(runs)))
    return table(head, rows, class_="config") if rows else None


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value(child) for child in value) if value else "()"
    if isinstance(value, Mapping):
        return "{}"
    return str(value) if value != "" else "''"


def _speed(run: Run) -> str:
    """The median, which a slow first step or an evaluation does not move."""
    points = sorted(run.series.get("train/images_per_second", {}).values())
    return format_number(points[len(points) // 2]) if points else "–"


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"


def _heading(text: str, columns: int) -> Markup:
    return tag("tr", tag("th", text, colspan=columns, class_="group"))


def _head(cells: Iterable[Any]) -> Markup:
    return tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in cells)))


def table(
    head: Iterable[Any], rows: Iterable[Iterable[Any]], class_: str | None = None
) -> Markup:
    """Rows under a head, which scroll sideways where they are too wide."""
    body = tag("tbody", *(tag("tr", *(tag("td", c) for c in row)) for row in rows))
    return tag("div", tag("table", _head(head), body, class_=class_), class_="scroll")
