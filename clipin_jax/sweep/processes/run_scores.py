"""The scores in a run folder, as the results of a study or a sweep keep them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from clipin_jax.report.run_history import RunHistory

_DECIMALS = 6  # more than a share of a few thousand images has


class RunScores(NamedTuple):
    """The scores of a run.

    Attributes:
      values: metric -> last value; None if the run has none.
      curves: metric -> [[step, value], ...], of metrics with several values.
    """

    values: dict[str, float | None]
    curves: dict[str, list[list[Any]]]


def run_scores(run: RunHistory, metrics: Iterable[str]) -> RunScores:
    """Returns the values and the curves of some metrics."""
    final = run.final_scores()
    values = {name: _rounded(final.get(name)) for name in metrics}
    curves = {
        name: [[step, _rounded(value)] for step, value in run.series[name].items()]
        for name in values
        if len(run.series.get(name, {})) > 1
    }
    return RunScores(values, curves)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
