"""What an evaluator is, and how its scores are shown."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from clipin_jax.errors import did_you_mean
from clipin_jax.inference.encode_fns import ModelState

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Figure:
    """How one score, or a family of scores, is shown.

    Attributes:
      format: template of `str.format` for the value.
      headline: whether tables with many evaluations show it.
      better: "higher" or "lower".
      trials: of how many yes-or-no outcomes the score is the share, such as scored
        images, so that it has an interval; 0 if it is no such share. From `trials` of
        the evaluator.
    """

    format: str = "{:.3f}"
    headline: bool = False
    better: str = "higher"
    trials: int = 0


# Begin the names of values that stand beside a metric.
BESIDE = CHANCE, CEILING = "chance/", "ceiling/"
Figures = Mapping[str, Figure]  # metric name, or pattern such as "*_shot/accuracy"


class Evaluator(Protocol):
    """Scores the model of a state; built once for an entry of `config.evals`.

    The class is called as `Class(encoder, **arguments)`, with the keys of the entry as
    keyword arguments. `source`, and each argument whose name ends with `_source`, is
    built first: the class gets the source, not its dict. It reads labels and captions
    at once, and raises ClipinError for what is wrong with them.

    A class may also have `benchmark_keys`: names in the JSON files of CLIP_benchmark,
    each with the metric that it stands for; and `trials`: metrics that are shares, or
    patterns, to the number of yes-or-no outcomes, by which reports show intervals.

    Attributes:
      task: kind of evaluation, as written to the JSON file.
      figures: name of a metric, or a pattern of `fnmatch`, to how it is shown. The
        first match counts. Metrics without a figure are saved, but not printed.
    """

    task: str
    figures: Figures

    def run(self, state: ModelState) -> Iterable[tuple[str, float]]:
        """Yields (metric, value).

        Also ("chance/METRIC", value) for a random guess, and ("ceiling/METRIC", value)
        where no model can reach the best value.
        """
        ...


def find_figure(figures: Figures, metric: str) -> Figure | None:
    """Returns the figure of a metric by name or pattern, None if it has none."""
    return _first_match(figures, metric)


def shown_figures(
    evaluators: Mapping[str, Evaluator], values: Iterable[str]
) -> dict[str, Figure]:
    """Returns the figure of each value that is shown.

    Args:
      evaluators: by their names in `config.evals`.
      values: keys `EVALUATOR/METRIC`.
    """
    figures = {}
    for key in values:
        name, _, metric = key.partition("/")
        if name not in evaluators or metric.startswith(BESIDE):
            continue
        if figure := find_figure(evaluators[name].figures, metric):
            known = getattr(evaluators[name], "trials", {})
            trials = _first_match(known, metric) or 0
            figures[key] = dataclasses.replace(figure, trials=trials)
    return figures


def _first_match(values: Mapping[str, T], metric: str) -> T | None:
    matches = (x for pattern, x in values.items() if fnmatchcase(metric, pattern))
    return next(matches, None)


def check_best_metric(metric: str, evaluators: Mapping[str, Evaluator]) -> None:
    """Warns if `checkpoint.best_metric` is no figure of an evaluator.

    Args:
      metric: `EVALUATOR/METRIC`; "" for none.
      evaluators: by their names in `config.evals`.
    """
    name, _, score = metric.partition("/")
    if not metric or not evaluators or score.startswith(BESIDE):
        return
    if name not in evaluators:
        hint = f"evals has no {name!r}: {did_you_mean(name, evaluators)}"
    elif not find_figure(figures := evaluators[name].figures, score):
        hint = f"evals.{name} shows no {score!r}: {did_you_mean(score, figures)}"
    else:
        return
    _log.warning(
        "checkpoint.best_metric is %r: no best checkpoint is kept unless an evaluation "
        "measures it; %s",
        metric,
        hint,
    )


# Figures of the metrics of `scores.classification_scores`.
CLASSIFICATION = {
    "accuracy": Figure("{:.1%}", headline=True),
    "top5_accuracy": Figure("{:.1%}"),
    "mean_per_class_recall": Figure("{:.1%}"),
    "macro_auc": Figure("{:.3f}", headline=True),
    "mean_average_precision": Figure("{:.3f}", headline=True),
}


def prefixed(prefix: str, figures: Figures) -> dict[str, Figure]:
    """Returns figures of the metrics `prefix + metric`, none of them a headline."""
    return {
        f"{prefix}{metric}": dataclasses.replace(figure, headline=False)
        for metric, figure in figures.items()
    }
