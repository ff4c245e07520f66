"""Formats texts for the terminal: the banner of a run, and tables of scores."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.evaluators.base import CEILING, CHANCE, Figure
from clipin_jax.objectives.base import chance_counts
from clipin_jax.processes.device_use import describe_processes
from clipin_jax.processes.joined import this_group
from clipin_jax.runs.build import Experiment


def banner(
    experiment: Experiment, run_name: str, examples_per_epoch: int, step: int
) -> str:
    """Returns lines that describe a run before its first step."""
    config, mesh = experiment.config, experiment.mesh
    towers = experiment.learner.towers
    height, width = config.data.image_size
    image, text = config.model.image.name, config.model.text.name
    epochs = config.total_steps * config.batch_size / examples_per_epoch
    lines = {
        "model": f"{image}{_size(towers.image)} at {height}x{width}, "
        f"{text}{_size(towers.text)}, {_parameters(experiment)}",
        "objectives": ", ".join(config.objectives),
        "devices": f"{mesh.size} x {jax.devices()[0].device_kind}, mesh "
        + " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
        + f", {describe_processes(this_group())}",
        "data": f"{config.data.source.name}, {examples_per_epoch:,} examples per epoch"
        + _dials(config.data.source),
        "schedule": f"{config.total_steps:,} steps of {config.batch_size} pairs = "
        f"{epochs:.3g} epochs{_peak(config.optim.learning_rate)}",
        "chance": _chance_losses(experiment),
        "run": run_name + (f", resumed at step {step:,}" if step else ""),
    }
    body = "\n".join(f"  {name:<11}{text}" for name, text in lines.items() if text)
    return f"clipin: {config.name}\n{body}"


def _dials(source: ConfigDict) -> str:
    """Returns the shares that a source is given, such as ", looseness 0.4"."""
    shares = {k: x for k, x in source.items() if isinstance(x, float) and x}
    return "".join(f", {key} {share:g}" for key, share in shares.items())


def _parameters(experiment: Experiment) -> str:
    total, trained = experiment.num_params, experiment.num_trained
    if trained == total:
        return f"{total / 1e6:.1f}M parameters"
    return f"{trained / 1e6:.1f}M of {total / 1e6:.1f}M parameters trained"


def _chance_losses(experiment: Experiment) -> str:
    """Returns the chance losses of objectives with a known number of choices."""
    size = experiment.config.batch_size
    losses = [
        f"a {name} loss of ln({count}) = {math.log(count):.3f}"
        for name, count in chance_counts(experiment.learner.objectives, size).items()
    ]
    return f"a model that knows nothing has {' and '.join(losses)}" if losses else ""


def _size(tower: Any) -> str:
    """Returns depth and width of a tower, such as " 12x768"; "" without a width."""
    if not hasattr(tower, "width"):
        return ""
    # A residual network has a tuple of depths, a tower in two halves has two fields.
    fields = (field.name for field in dataclasses.fields(tower))
    depth = sum(np.sum(getattr(tower, name)) for name in fields if "depth" in name)
    return f" {depth}x{tower.width}"


def cut_captions(share: float) -> str:
    """Returns the warning about cut captions in the first batch."""
    return (
        f"clipin: {share:.0%} of the first batch's captions are longer than "
        "data.context_length and lose their end (data.long_captions)"
    )


def _peak(schedule: Any) -> str:
    """Returns the largest learning rate; "" for a schedule that does not show it."""
    if isinstance(schedule, int | float):
        rates = [schedule]
    else:
        keys = ("peak", "start", "end", "value")
        rates = [rate for key, rate in schedule.items() if key in keys]
    return f", peak learning rate {max(rates):g}" if rates else ""


def scores(values: Mapping[str, float], figures: Mapping[str, Figure]) -> str:
    """Returns the scores of evaluators, one per line, with chance and ceiling beside.

    Args:
      values: `EVALUATOR/METRIC` -> number, with `EVALUATOR/chance/METRIC` and
        `EVALUATOR/ceiling/METRIC` if known.
      figures: formats of the values; values without one are left out.
    """
    rows = []
    for key, figure in figures.items():
        known = {
            "chance": _beside(CHANCE, key, values),
            "at most": _beside(CEILING, key, values),
        }
        texts = [
            f"{name} {figure.format.format(value)}"
            for name, value in known.items()
            if value is not None
        ]
        beside = f"({', '.join(texts)})" if texts else ""
        row = f"  {key:<40} {figure.format.format(values[key]):>7}  {beside}"
        rows.append(row.rstrip())
    return "\n".join(rows)


def headlines(values: Mapping[str, float], figures: Mapping[str, Figure]) -> str:
    """Returns the headlines of each evaluator in a line, with chance beside them.

    Args:
      values: as for `scores`.
      figures: formats of the values; all of an evaluator count without a headline.
    """
    groups: dict[str, dict[str, Figure]] = {}
    for key, figure in figures.items():
        groups.setdefault(key.partition("/")[0], {})[key] = figure
    lines = []
    for evaluator, group in groups.items():
        shown = {k: v for k, v in group.items() if v.headline} or group
        texts = (_with_chance(key, figure, values) for key, figure in shown.items())
        lines.append(f"  {evaluator}: {', '.join(texts)}")
    return "\n".join(lines)


def _with_chance(key: str, figure: Figure, values: Mapping[str, float]) -> str:
    chance, text = _beside(CHANCE, key, values), figure.format.format
    beside = "" if chance is None else f" (chance {text(chance)})"
    return f"{key.partition('/')[2]} {text(values[key])}{beside}"


WIDTHS = (18, 23, 22, 6, 7)  # 80 columns with the spaces between


def table(values: Mapping[str, float], figures: Mapping[str, Figure]) -> str:
    """Returns the headlines of many evaluations as a table of 80 columns.

    Args:
      values: `DATASET:PROTOCOL/METRIC` -> number, with chance as in `scores`.
      figures: formats of the values; the table has those that are headlines.
    """
    rows: list[Sequence[str]] = [("data", "evaluation", "figure", "score", "chance")]
    rows.append(["-" * width for width in WIDTHS])
    last_dataset = last_name = ""
    for key, figure in figures.items():
        if not figure.headline:
            continue
        name, _, metric = key.partition("/")
        dataset, _, protocol = name.partition(":")
        cells = (values[key], _beside(CHANCE, key, values))
        rows.append(
            (
                "" if dataset == last_dataset else dataset,
                "" if name == last_name else protocol,
                metric,
                *("" if x is None else figure.format.format(x) for x in cells),
            )
        )
        last_dataset, last_name = dataset, name
    return "\n".join(_row(cells) for cells in rows)


def interpolations(
    rows: Mapping[float, Mapping[str, float]], figures: Mapping[str, Figure]
) -> str:
    """Returns the headlines of interpolated weights, one line for each alpha.

    Args:
      rows: alpha -> `EVALUATOR/METRIC` -> number, with chance as in `scores`.
      figures: formats of the values; without a headline among them, all are shown.
    """
    shown = {k: v for k, v in figures.items() if v.headline} or figures
    columns = [["", "alpha", *(f"{alpha:g}" for alpha in rows), "chance"]]
    for key, figure in shown.items():
        evaluator, _, metric = key.partition("/")
        chance = _beside(CHANCE, key, next(iter(rows.values())))
        values = [*(scores[key] for scores in rows.values()), chance]
        cells = ("" if x is None else figure.format.format(x) for x in values)
        columns.append([evaluator, metric, *cells])
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        for cells in zip(*columns, strict=True)
    )


def _beside(prefix: str, key: str, values: Mapping[str, float]) -> float | None:
    """Returns the chance or the ceiling of a score."""
    evaluator, _, metric = key.partition("/")
    return values.get(f"{evaluator}/{prefix}{metric}")


def _row(cells: Sequence[str]) -> str:
    """Returns a line of three texts, cut to their widths, and two numbers."""
    texts = [
        f"{cell if len(cell) <= width else cell[: width - 2] + '..':<{width}}"
        for cell, width in zip(cells[:3], WIDTHS[:3], strict=True)
    ]
    numbers = [f"{c:>{w}}" for c, w in zip(cells[3:], WIDTHS[3:], strict=True)]
    return " ".join((*texts, *numbers)).rstrip()


def left_out(skipped: Mapping[str, str]) -> str:
    """Returns lines with the evaluations that were skipped, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        reasons.setdefault(reason, []).append(name)
    lines = (f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    return "".join(
        textwrap.fill(f"clipin: left out: {line}", 80, subsequent_indent="  ") + "\n"
        for line in lines
    )
