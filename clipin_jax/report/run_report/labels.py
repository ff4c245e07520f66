"""How runs are named in all parts of their report."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.report.charts.intervals import look_of, series_label
from clipin_jax.report.markup import Markup
from clipin_jax.report.run_history import RunHistory


def run_names(runs: Sequence[RunHistory]) -> list[Markup]:
    """Returns the label of each run behind its line and marker."""
    return [series_label(run.label, look_of(i)) for i, run in enumerate(runs)]
