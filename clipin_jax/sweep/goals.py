"""What a sweep makes best: a score of an evaluator, and which end of it is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from clipin_jax.config import with_defaults
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators import read_entry
from clipin_jax.evaluators.base import Figure, find_figure
from clipin_jax.report.text_format import NO_NUMBER

_MODES = ("max", "min")
_PATTERN = set("*?[")


class Goal(NamedTuple):
    """A metric and its better end.

    Attributes:
      metric: "EVALUATOR/METRIC".
      mode: "max" or "min".
      format: template of `str.format` for a value.
    """

    metric: str
    mode: str
    format: str

    @property
    def name(self) -> str:
        """The metric, and its mode if that is "min"."""
        return self.metric + ":min" * (self.mode == "min")

    def loss(self, value: float) -> float:
        """Returns a number that is lower for better values."""
        return value if self.mode == "min" else -value

    def text(self, value: float | None) -> str:
        """Returns a value as its evaluator shows it."""
        return NO_NUMBER if value is None else self.format.format(value)


def read_goals(texts: Sequence[str], config: ConfigDict) -> tuple[Goal, ...]:
    """Returns the goals of "EVALUATOR/METRIC[:min|:max]"; a default one for no text.

    That is the config's `checkpoint.best_metric`, or the first headline of its evals.
    Without a mode, the evaluator says which end is better.

    Raises:
      ClipinError: no evaluator of the config gives the metric.
    """
    if not texts:
        return (_default(config),)
    goals = tuple(_read(text, config) for text in texts)
    if len({goal.metric for goal in goals}) < len(goals):
        raise ClipinError("--metric names one metric twice: give each once")
    return goals


def evaluation_steps(goal: Goal, config: ConfigDict) -> int:
    """Returns after how many steps each a goal is measured; 0 for at the end alone."""
    return config.evals[goal.metric.partition("/")[0]].get("every_steps", 0)


def _read(text: str, config: ConfigDict) -> Goal:
    metric, colon, mode = text.rpartition(":")
    if not colon or mode not in _MODES:
        metric, mode = text, ""
    figure = _figure(metric, config)
    better = "min" if figure.better == "lower" else "max"
    return Goal(metric, mode or better, figure.format)


def _default(config: ConfigDict) -> Goal:
    keep = with_defaults(config).checkpoint
    if keep.get("best_metric"):
        goal = _read(keep.best_metric, config)
        return goal._replace(mode=keep.best_mode)
    for name in config.evals:
        for metric, figure in _figures(name, config).items():
            if figure.headline and not _PATTERN & set(metric):
                return _read(f"{name}/{metric}", config)
    raise ClipinError(
        "the config's evals have no headline metric: give --metric EVALUATOR/METRIC"
    )


def _figure(metric: str, config: ConfigDict) -> Figure:
    name, _, score = metric.partition("/")
    if name not in config.evals:
        raise ClipinError(
            f"no evaluator gives the metric {metric!r}: evals has no {name!r}; "
            f"{did_you_mean(name, config.evals)}"
        )
    figures = _figures(name, config)
    if (figure := find_figure(figures, score)) is None:
        raise ClipinError(
            f"no evaluator gives the metric {metric!r}: evals.{name} has no {score!r}; "
            f"{did_you_mean(score, figures)}"
        )
    return figure


def _figures(name: str, config: ConfigDict) -> Mapping[str, Figure]:
    kind, _ = read_entry(name, config.evals[name])
    return getattr(kind, "figures")  # noqa: B009  (`read_entry` checks that it is there)
