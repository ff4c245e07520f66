"""How runs are named in all parts of their report."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.report.charts.intervals import look_of, series_label
from clipin_jax.report.components import note
from clipin_jax.report.markup import Markup
from clipin_jax.report.run_history import RunHistory

MOST_COLUMNS = 40  # runs that stand side by side in a table


def columns_note(runs: Sequence[RunHistory]) -> Markup | None:
    """Returns how many of the runs have a column, if not all have one."""
    if len(runs) <= MOST_COLUMNS:
        return None
    return note(f"The first {MOST_COLUMNS} of {len(runs)} runs.")


def run_names(runs: Sequence[RunHistory]) -> list[Markup]:
    """Returns the label of each run behind its line and marker."""
    return [series_label(run.label, look_of(i)) for i, run in enumerate(runs)]
