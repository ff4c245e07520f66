"""What a run logged, as a table."""

from __future__ import annotations

import pyarrow

from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.run_report.scores import is_score


def history_table(history: RunHistory) -> pyarrow.Table:
    """Returns a row for each logged step, ascending.

    Columns: `step`, int64; each metric, float64, null where it was not logged. Chance
    levels of scores are left out.
    """
    series = {key: points for key, points in history.series.items() if is_score(key)}
    steps = sorted({step for points in series.values() for step in points})
    columns = {"step": pyarrow.array(steps, pyarrow.int64())}
    for key, points in series.items():
        columns[key] = pyarrow.array(map(points.get, steps), pyarrow.float64())
    return pyarrow.table(columns)
