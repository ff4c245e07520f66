"""What a study found: its metrics, and its runs with their scores and costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NONE = "–"  # stands where there is no number


@dataclass(frozen=True)
class Metric:
    """A figure, and how it is written.

    Attributes:
      name: its key in the scores, "EVALUATOR/FIGURE".
      label: what people call it.
      chance: what a random guess gets; None where that is not known.
      percent: whether it is a share from 0 to 1, shown in percent.
      lower_is_better: whether less is more, as of a rank.
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
        """What a value is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    @property
    def shown_chance(self) -> float | None:
        """Chance as it is shown, in percent if the metric is."""
        return None if self.chance is None else self.chance * self.scale

    @property
    def title(self) -> str:
        """The label with its unit, and which end is better where that is unusual."""
        unit = ", %" if self.percent else ""
        return self.label + unit + (" (lower is better)" * self.lower_is_better)

    def text(self, value: float | None, sign: bool = False) -> str:
        """A value, or a difference of two with its sign, without the unit."""
        if value is None or not math.isfinite(value):
            return NONE
        shown = round(value * self.scale, self.digits) + 0.0  # never "-0.0"
        return f"{shown:{'+' if sign and shown else ''}.{self.digits}f}"

    def amount(self, difference: float) -> str:
        """The size of a difference with its unit: "2.3 points"."""
        number = self.text(abs(difference))
        if not self.percent:
            return number
        return f"{number} point" + "s" * (number != "1.0")


class Run(NamedTuple):
    """One training run.

    values: metric -> value, None where it diverged; curves: metric -> [[step, value],
    ...]; failed: why it has none of both.
    """

    values: Mapping[str, float | None]
    curves: Mapping[str, list[tuple[float, float | None]]]
    failed: str | None


class Fault(NamedTuple):
    """A run that is not in the numbers, or not in all of them, and why."""

    method: str
    level: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Results:
    """A study's grid of runs.

    Attributes:
      pairs: (method, what it is compared with), in the order of the page.
      runs: (method, level, seed) -> run; absent where it has not run yet.
      costs: method -> figure -> number; {} where nothing was measured.
    The rest is as in results.json.
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
    runs: Mapping[tuple[str, str, int], Run]
    costs: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> Metric:
        """The metric that the study is decided by."""
        return self.metrics[0]

    @property
    def cells(self) -> Iterator[tuple[str, str, int]]:
        """All (method, level, seed) of the grid."""
        return (
            (method, level, seed)
            for method in self.methods
            for level in self.levels
            for seed in self.seeds
        )

    def numbers(self, metric: Metric, method: str, level: str) -> dict[int, float]:
        """Seed -> value, of the runs that have one."""
        found = {}
        for seed in self.seeds:
            run = self.runs.get((method, level, seed))
            value = None if run is None else run.values.get(metric.name)
            if value is not None and math.isfinite(value):
                found[seed] = float(value)
        return found

    def faults(self) -> list[Fault]:
        """The runs that failed, diverged or have not run, in the grid's order."""
        found = ((cell, self._fault(self.runs.get(cell))) for cell in self.cells)
        return [Fault(*cell, reason) for cell, reason in found if reason]

    def _fault(self, run: Run | None) -> str:
        if run is None:
            return "has not run"
        if run.failed is not None:
            return f"failed: {run.failed}"
        lost = [m.label for m in self.metrics if not is_number(run.values.get(m.name))]
        return f"no number in {', '.join(lost)}" if lost else ""


def is_value(value: Any) -> bool:
    """A number of any kind, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or number


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; a diverged run has none."""
    return value is not None and is_value(value) and math.isfinite(value)
