"""Curves of runs for a notebook."""

from __future__ import annotations

import contextlib
import difflib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError, shorten
from clipin_jax.objectives.base import chance_counts
from clipin_jax.report.charts.lines import line_chart
from clipin_jax.report.components import chart_grid, legend, note
from clipin_jax.report.fragment import fragment
from clipin_jax.report.markup import Markup
from clipin_jax.report.run_history import DAMAGE, RunHistory
from clipin_jax.report.run_report.curves import lines_of
from clipin_jax.report.run_report.labels import run_names
from clipin_jax.report.run_report.scores import chance_key, is_score

LOSS = "train/loss"
_PREFIXES = ("train/", "health/")  # that a name may leave out
_NEAREST = 4  # names in a message


class Charts:
    """Charts of metrics, which a notebook shows side by side."""

    def __init__(
        self,
        runs: Sequence[RunHistory],
        metrics: Sequence[str],
        chance: Mapping[str, float],
    ):
        """Keeps what to draw.

        Args:
          runs: a line for each; at least one.
          metrics: a chart for each.
          chance: of the losses; scores have it in the history.
        """
        self._runs, self._metrics, self._chance = runs, metrics, chance

    def markup(self) -> Markup:
        """Returns the charts, for a page."""
        if not self._metrics:
            return note("Nothing has been logged yet.")
        return chart_grid(map(self._chart, self._metrics))

    def _chart(self, metric: str) -> Markup:
        lines = lines_of(self._runs, metric)
        return line_chart(short_name(metric), lines, self._chance_of(metric))

    def _chance_of(self, metric: str) -> float | None:
        for run in self._runs:
            if points := run.series.get(chance_key(metric)):
                return points[max(points)]
        return self._chance.get(metric)

    def _repr_html_(self) -> str:
        several = len(self._runs) > 1
        names = legend(run_names(self._runs)) if several else None
        return fragment(names, self.markup())

    def __repr__(self) -> str:
        return f"<charts of {', '.join(self._metrics)}, for a notebook>"


def find_metric(name: str, runs: Sequence[RunHistory]) -> str:
    """Returns the full name of a metric, whose start may be left out if that is clear.

    Raises:
      ClipinError: no run has it, or several metrics end so; with the nearest ones.
    """
    if not isinstance(name, str):
        raise ClipinError(
            f"{shorten(repr(name))} is no name of a metric: give strings, as in "
            "plot('loss', 'mean_recall')"
        )
    known = list(dict.fromkeys(k for run in runs for k in run.series if is_score(k)))
    for prefix in ("", *_PREFIXES):
        if prefix + name in known:
            return prefix + name
    ends = [key for key in known if key.endswith(f"/{name}")]
    if len(ends) == 1:
        return ends[0]
    nearest = ", ".join(ends or _nearest(name, known))
    raise ClipinError(
        f"no metric {shorten(repr(name))} was logged"
        + (f"; the nearest are {nearest}" if nearest else "")
        + "; run.history.column_names has all"
    )


def _nearest(name: str, known: Sequence[str]) -> Iterable[str]:
    parts: dict[str, str] = {}
    for key in known:
        for part in (key, short_name(key), key.rpartition("/")[2]):
            parts.setdefault(part, key)
    near = difflib.get_close_matches(name, parts, n=_NEAREST, cutoff=0.5)
    return dict.fromkeys(parts[part] for part in near)


def short_name(metric: str) -> str:
    """Returns the name of a metric as charts have it."""
    return functools.reduce(str.removeprefix, _PREFIXES, metric)


def main_metrics(runs: Sequence[RunHistory], chance: Mapping[str, float]) -> list[str]:
    """Returns the losses and the headlines among the scores, as far as logged."""
    logged = {key for run in runs for key in run.series}
    headlines = dict.fromkeys(
        key for run in runs for key, figure in run.figures.items() if figure.headline
    )
    losses = dict.fromkeys([LOSS, *chance])
    return [key for key in [*losses, *headlines] if key in logged]


def chance_losses(config: ConfigDict) -> dict[str, float]:
    """Returns the losses of a model that knows nothing, by metric, where known.

    That of the total is known if one objective of weight 1 is all of it.
    """
    # The config may be of another version, a class of it of a package elsewhere.
    with contextlib.suppress(ClipinError, *DAMAGE):
        objectives = build(config).objectives
        counts = chance_counts(objectives, config.batch_size)
        losses = {f"train/{k}/loss": math.log(count) for k, count in counts.items()}
        if len(objectives) == 1 and losses:
            return {LOSS: next(iter(losses.values()))}
        return losses
    return {}
