"""Sweeps and studies, finished or not, which a notebook shows as their pages."""

from __future__ import annotations

from pathlib import Path

from clipin_jax.report.fragment import InlinePage
from clipin_jax.report.text_format import count_noun
from clipin_jax.storage import local_path
from clipin_jax.study import conclusions
from clipin_jax.study.html_page import study_page
from clipin_jax.study.results import StudyResults
from clipin_jax.study.results_json import parse_results, read_results
from clipin_jax.sweep.definition import Sweep, read_sweep
from clipin_jax.sweep.outcomes import Point, collect_points, count_states, ranked
from clipin_jax.sweep.pages.page import sweep_page


class SweepOutcome:
    """What came of a sweep.

    Attributes:
      sweep: what is varied, and the metrics.
      points: all of them, with state and values.
      ranked: those that are done, the best one first.
      page: with its charts.
    """

    def __init__(self, sweep: Sweep, points: list[Point]):
        """Ranks the points."""
        self.sweep, self.points, self.ranked = sweep, points, ranked(sweep, points)
        self.page = InlinePage(f"Sweep of {sweep.name}", sweep_page(sweep, points))

    def _repr_html_(self) -> str:
        return self.page.frame()

    def __repr__(self) -> str:
        points = count_noun(len(self.points), "point")
        text = f"{self.page.title}, {points}: {count_states(self.points) or 'none'}"
        for best in self.ranked[:1]:
            settings = ", ".join(f"{k}={x}" for k, x in best.assignment.items())
            scores = zip(self.sweep.goals, best.values, strict=True)
            shown = ", ".join(f"{goal.metric} {goal.text(x)}" for goal, x in scores)
            text += f"; best {settings}: {shown}"
        return f"<{text}>"


class StudyOutcome:
    """What came of a study.

    Attributes:
      results: the scores of every run, and what is known of the study.
      conclusions: sentences about its primary metric.
      page: with its tables and charts.
    """

    def __init__(self, results: StudyResults):
        """Draws the conclusions."""
        self.results, self.conclusions = results, conclusions.summary(results)
        self.page = InlinePage(results.title, study_page(results))

    def _repr_html_(self) -> str:
        return self.page.frame()

    def __repr__(self) -> str:
        return "\n".join([self.results.title, *self.conclusions])


def open_sweep(folder: str | Path) -> SweepOutcome:
    """Returns what came of a sweep so far.

    Args:
      folder: of the sweep, a path.

    Raises:
      ClipinError: the folder holds no sweep.
    """
    home = local_path(folder)
    sweep = read_sweep(home)
    return SweepOutcome(sweep, collect_points(sweep, home))


def open_study(results: str | Path) -> StudyOutcome:
    """Returns what came of a study so far.

    Args:
      results: the folder of the study, or its results.json; a path.

    Raises:
      ClipinError: there is no such file, or it is damaged.
    """
    path = local_path(results)
    file = path / "results.json" if path.is_dir() else path
    return StudyOutcome(parse_results(read_results(file)))
