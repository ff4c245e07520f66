"""What a run says in the terminal: a banner at the start, scores with chance beside."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clipin_jax.evaluators.base import Figure
from clipin_jax.runs.build import Experiment


def banner(run: Experiment, workdir: Path, examples_per_epoch: int, step: int) -> str:
    """The facts of a run before its first step, several lines."""
    config = run.config
    image, text = config.model.image, config.model.text
    height, width = image.image_size
    epochs = config.total_steps * config.batch_size / examples_per_epoch
    weights = ", ".join(config.objectives)
    lines = {
        "model": f"{_size(image)} at {height}x{width}, {_size(text)}, "
        f"{run.num_params / 1e6:.1f}M parameters",
        "objectives": weights,
        "devices": f"{run.mesh.size} x {jax.devices()[0].device_kind}, mesh "
        + " x ".join(f"{axis} {size}" for axis, size in run.mesh.shape.items())
        + f", processes {jax.process_count()}",
        "data": f"{config.data.source.name}, {examples_per_epoch:,} examples per epoch",
        "schedule": f"{config.total_steps:,} steps of {config.batch_size} pairs = "
        f"{epochs:.3g} epochs, "
        f"peak learning rate {_peak(config.optim.learning_rate):g}",
        **_chance(run),
        "run": f"{workdir}" + (f", resumed at step {step:,}" if step else ""),
    }
    body = "\n".join(f"  {name:<11}{value}" for name, value in lines.items())
    return f"clipin: {config.name}\n{body}"


def _chance(run: Experiment) -> dict[str, str]:
    """What the loss is at first where an objective looks for each pair among many."""
    choices = {
        name: objective.num_choices(run.config.batch_size)
        for name, objective in run.learner.objectives.items()
        if hasattr(type(objective), "num_choices")
    }
    losses = [
        f"a {name} loss of ln({count}) = {math.log(count):.3f}"
        for name, count in choices.items()
    ]
    said = f"a model that knows nothing has {' and '.join(losses)}"
    return {"chance": said} if losses else {}


def _size(tower: Any) -> str:
    # A residual network has depths, a tower in two halves has two of them.
    depth = sum(np.sum(tower[key]) for key in tower if "depth" in key)
    return f"{tower.name} {depth}x{tower.width}"


def cut_captions(share: float) -> str:
    """What is said where captions of the first batch were cut."""
    return (
        f"clipin: {share:.0%} of the first batch's captions are longer than "
        "data.context_length and lose their end (data.long_captions)"
    )


def _peak(schedule: Any) -> float:
    if isinstance(schedule, (int, float)):
        return schedule
    return max(v for k, v in schedule.items() if k in ("peak", "start", "end", "value"))


def scores(values: Mapping[str, float], figures: Mapping[str, Figure]) -> str:
    """Returns the scores of evaluators, one a line, chance beside each.

    Args:
      values: `EVALUATOR/METRIC` to number, with `EVALUATOR/chance/METRIC` if known.
      figures: how each value is shown; values without one are left out.
    """
    rows = []
    for key, figure in figures.items():
        chance = _chance_of(key, values)
        beside = "" if chance is None else f"(chance {figure.format.format(chance)})"
        row = f"  {key:<40} {figure.format.format(values[key]):>7}  {beside}"
        rows.append(row.rstrip())
    return "\n".join(rows)


WIDTHS = (18, 23, 22, 6, 7)  # 80 columns with the spaces between


def table(values: Mapping[str, float], figures: Mapping[str, Figure]) -> str:
    """Returns the headlines of many evaluations as a table of 80 columns.

    Args:
      values: `DATASET:PROTOCOL/METRIC` to number, with chance as in `scores`.
      figures: how each value is shown; the table has those that are headlines.
    """
    rows: list[Sequence[str]] = [("data", "evaluation", "figure", "score", "chance")]
    rows.append(["-" * width for width in WIDTHS])
    last_dataset = last_name = ""
    for key, figure in figures.items():
        if not figure.headline:
            continue
        name, _, metric = key.partition("/")
        dataset, _, protocol = name.partition(":")
        cells = (values[key], _chance_of(key, values))
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


def _chance_of(key: str, values: Mapping[str, float]) -> float | None:
    evaluator, _, metric = key.partition("/")
    return values.get(f"{evaluator}/chance/{metric}")


def _row(cells: Sequence[str]) -> str:
    """Three cells of words and two of numbers; words that are too long lose a part."""
    words = [
        f"{cell if len(cell) <= width else cell[: width - 2] + '..':<{width}}"
        for cell, width in zip(cells[:3], WIDTHS[:3], strict=True)
    ]
    numbers = [f"{c:>{w}}" for c, w in zip(cells[3:], WIDTHS[3:], strict=True)]
    return " ".join((*words, *numbers)).rstrip()


def left_out(skipped: Mapping[str, str]) -> str:
    """What was not evaluated, by reason; several lines, or none."""
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        reasons.setdefault(reason, []).append(name)
    lines = (f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    return "".join(
        textwrap.fill(f"clipin: left out: {line}", 80, subsequent_indent="  ") + "\n"
        for line in lines
    )
