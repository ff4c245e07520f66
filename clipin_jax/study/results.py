"""The results of a study: its metrics, and its runs with their scores and costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from clipin_jax.report.text_format import NO_NUMBER
from clipin_jax.study.study_file import PlannedRun


@dataclass(frozen=True)
class Metric:
    """A score, and how it is shown.

    Attributes:
      name: its key in the scores, "EVALUATOR/FIGURE".
      label: its name on the page.
      chance: the score of a random guess; None if it is not known.
      percent: whether it is a share from 0 to 1, shown in percent.
      lower_is_better: whether lower values are better.
      digits: decimals that are shown.
    """

    name: str
    label: str
    chance: float | None
    percent: bool
    lower_is_better: bool
    digits: int

    @property
    def scale(self) -> float:
        """The factor between a value and the number that is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def shown_chance(self) -> float | None:
        """Chance as it is shown, in percent if the metric is."""
        return None if self.chance is None else self.chance * self.scale

    @property
    def title(self) -> str:
        """The label with its unit, and which end is better if it is the lower one."""
        unit = ", %" if self.percent else ""
        return self.label + unit + (" (lower is better)" * self.lower_is_better)

    def text(self, value: float | None, *, sign: bool = False) -> str:
        """Returns a value without its unit; sign: whether to write a plus."""
        if value is None or not math.isfinite(value):
            return NO_NUMBER
        shown = round(value * self.scale, self.digits) + 0.0  # never "-0.0"
        return f"{shown:{'+' if sign and shown else ''}.{self.digits}f}"

    def size_text(self, difference: float) -> str:
        """Returns the size of a difference with its unit: "2.3 points"."""
        number = self.text(abs(difference))
        if not self.percent:
            return number
        return f"{number} point" + "s" * (number != "1.0")


class RunResult(NamedTuple):
    """The outcome of one training run.

    Attributes:
      values: metric -> value; None if the run diverged.
      curves: metric -> [(step, value), ...].
      failed: the error that ended the run; None if it finished.
    """

    values: Mapping[str, float | None]
    curves: Mapping[str, list[tuple[float, float | None]]]
    failed: str | None


class MissingScore(NamedTuple):
    """A run that lacks all of its scores or some, and why."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True)
class StudyResults:
    """The runs of a study and what is known about them.

    Attributes:
      name, title, question: of the study.
      methods: their names.
      notes: method -> remark.
      dial: name of the setting that the levels vary; "" if there is none.
      levels: of the dial, [""] if there is none.
      metrics: the first one is the primary.
      seeds: of the runs.
      pairs: (method, the method it is compared with), in the order of the page.
      runs: outcome of each run; absent if it has not run yet.
      costs: method -> figure -> number; {} if nothing was measured.
      settings: the changes from which the configs were made.
      environment: versions and machine.
    """

    name: str
    title: str
    question: str
    methods: list[str]
    notes: Mapping[str, str]
    dial: str
    levels: list[str]
    metrics: list[Metric]
    seeds: list[int]
    pairs: list[tuple[str, str]]
    runs: Mapping[PlannedRun, RunResult]
    costs: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> Metric:
        """The metric of the conclusions."""
        return self.metrics[0]

    @property
    def planned_runs(self) -> Iterator[PlannedRun]:
        """All runs of the study, done or not."""
        return (
            PlannedRun(method, level, seed)
            for method in self.methods
            for level in self.levels
            for seed in self.seeds
        )

    def numbers(self, metric: Metric, method: str, level: str) -> dict[int, float]:
        """Returns seed -> value of the runs that have a finite one."""
        numbers = {}
        for seed in self.seeds:
            run = self.runs.get(PlannedRun(method, level, seed))
            value = None if run is None else run.values.get(metric.name)
            if value is not None and math.isfinite(value):
                numbers[seed] = float(value)
        return numbers

    def missing_scores(self) -> list[MissingScore]:
        """Returns the runs that failed, diverged or have not run, in grid order."""
        reasons = ((run, self._reason(run)) for run in self.planned_runs)
        return [MissingScore(run, reason) for run, reason in reasons if reason]

    def _reason(self, planned: PlannedRun) -> str:
        run = self.runs.get(planned)
        if run is None:
            return "has not run"
        if run.failed is not None:
            return f"failed: {run.failed}"
        lost = [m.label for m in self.metrics if not is_number(run.values.get(m.name))]
        return f"no number in {', '.join(lost)}" if lost else ""


def is_value(value: Any) -> bool:
    """Returns whether a value is a number of any kind, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or number


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number; a diverged run has none."""
    return value is not None and is_value(value) and math.isfinite(value)
