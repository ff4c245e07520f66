"""A run that trains, in the output of a cell: progress, figures, curves of the loss.

One output is drawn anew in place. Drawing takes a hundredth of the time at most.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from clipin_jax.errors import describe_error
from clipin_jax.evaluators.base import Figure
from clipin_jax.notebook.charts import LOSS, Charts, chance_losses, short_name
from clipin_jax.report.fragment import fragment
from clipin_jax.report.markup import tag
from clipin_jax.report.run_history import read_history
from clipin_jax.runs.run_copy import open_copy
from clipin_jax.training import console
from clipin_jax.training.progress import Pace, figures_text

REDRAW_SECONDS = 1.0  # at least, between two drawings
LEAST_REST = 100  # times as long as a drawing takes nothing is drawn after it
STYLE = """
.bar { height: 6px; margin: .5rem 0; border-radius: 3px; background: var(--grid) }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--c0) }
.figures { margin: 0 0 .6rem; font-variant-numeric: tabular-nums }
"""


class Panel:
    """A drawing of a run."""

    def __init__(self, text: str, html: str):
        """Keeps it: text in one line, and HTML."""
        self._text, self._html = text, html

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


class Output(Protocol):
    """An output of a cell, such as a handle of `IPython.display`."""

    def update(self, drawing: Panel, /) -> Any:
        """Replaces what it shows."""


class LiveView:
    """Shows a run in the output of a cell, and prints lines below it."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        step: int,
        *,
        show: Callable[[Panel], Output],
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Draws what an earlier start of the run logged.

        Args:
          config: of the run.
          workdir: its folder on this machine.
          step: from which it goes on.
          show: makes the output.
          clock: returns seconds.
        """
        self._chance = chance_losses(config)
        history = read_history(open_copy(workdir), workdir.name)
        series = {key: history.series.get(key, {}) for key in [LOSS, *self._chance]}
        self._history = dataclasses.replace(history, series=series)
        self._total, self._step = config.total_steps, step
        self._pace, self._clock = Pace(config.total_steps, clock), clock
        self._state, self._figures = "compiling", ""
        self._next = -math.inf
        self._output = show(self._panel())

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points to the curves."""
        for key, points in self._history.series.items():
            if math.isfinite(value := values.get(key, math.nan)):
                points[step] = float(value)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that a step is done, if it is time to draw."""
        self._pace.passed(step)
        self._step, self._state = step, self._pace.remaining()
        self._figures = figures_text(values) or self._figures
        if self._clock() >= self._next:
            self._draw()

    def print_line(self, text: str) -> None:
        """Prints lines below the drawing."""
        print(text, flush=True)

    def show_scores(
        self, scores: Mapping[str, float], figures: Mapping[str, Figure]
    ) -> None:
        """Prints the headlines: `scores` of the run has all of them."""
        self.print_line(console.headlines(scores, figures))

    def close(self) -> None:
        """Draws the last state."""
        self._state = "done" if self._step == self._total else "stopped"
        if self._next < math.inf:
            self._draw()

    def _draw(self) -> None:
        start = self._clock()
        try:
            self._output.update(self._panel())
        except Exception as error:  # the run is worth more than its picture
            self._next = math.inf
            self.print_line(f"clipin: the run is not drawn: {describe_error(error)}")
            return
        end = self._clock()
        self._next = end + max(REDRAW_SECONDS, LEAST_REST * (end - start))

    def _panel(self) -> Panel:
        series = self._history.series
        parts = [f"step {self._step:,} of {self._total:,}", self._state, self._figures]
        for key, chance in self._chance.items():
            if points := series[key]:
                loss = f"{short_name(key)} {points[max(points)]:.3f}"
                parts.append(f"{loss} (chance {chance:.3f})")
        text = ", ".join(filter(None, parts))
        done = tag("i", style=f"width:{100 * self._step / self._total:.1f}%")
        metrics = [key for key, points in series.items() if points]
        charts = Charts([self._history], metrics, self._chance).markup()
        html = fragment(
            tag("p", text, class_="figures"),
            tag("div", done, class_="bar"),
            charts if metrics else None,
            style=STYLE,
        )
        return Panel(text, html)
