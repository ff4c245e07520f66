"""Shows the progress of a run: what does so, and how it is done in a terminal."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

import jax
from tqdm import tqdm

from clipin_jax.evaluators.base import Figure
from clipin_jax.training import console


class View(Protocol):
    """Shows a run while it trains."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes metrics that were logged, by their names in the log."""

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that `step` is done; values: the newest figures of `_FORMATS`."""

    def print_line(self, text: str) -> None:
        """Prints lines."""

    def show_scores(
        self, scores: Mapping[str, float], figures: Mapping[str, Figure]
    ) -> None:
        """Shows the scores of an evaluation; arguments as of `console.scores`."""

    def close(self) -> None:
        """Shows the last state, and keeps it."""


class Pace:
    """Tells the time left, by the speed after the first step, which compiles."""

    def __init__(
        self, total_steps: int, clock: Callable[[], float] = time.perf_counter
    ):
        """Starts with the first call of `passed`; clock: returns seconds."""
        self._total, self._clock = total_steps, clock
        self._first: tuple[int, float] | None = None
        self._step = 0

    def passed(self, step: int) -> None:
        """Notes that a step is done."""
        self._step = step
        self._first = self._first or (step, self._clock())

    def remaining(self) -> str:
        """Returns the time left, such as "ETA 01:09"; "ETA ?" if it is unknown."""
        step, start = self._first or (self._step, 0.0)
        if self._step == step:
            return "ETA ?"
        seconds = (self._clock() - start) / (self._step - step)
        return f"ETA {tqdm.format_interval(seconds * (self._total - self._step))}"


class Progress:
    """Shows a bar in a terminal, elsewhere a plain line every few seconds."""

    def __init__(
        self,
        total_steps: int,
        first_step: int = 0,
        *,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Starts at `first_step`; processes other than the first show nothing.

        Args:
          total_steps: where the run ends.
          first_step: where it begins; above 0 if it is resumed.
          every_seconds: seconds between plain lines if there is no terminal.
          stream: where to print; stderr if None.
          clock: returns seconds.
        """
        self._stream = stream or sys.stderr
        self._active = jax.process_index() == 0
        self._total, self._step = total_steps, first_step
        self._every_seconds, self._clock = every_seconds, clock
        self._pace = Pace(total_steps, clock)
        self._last_line = -math.inf
        self._figures = ""
        self._bar = None
        if self._active and self._stream.isatty():
            self._bar = tqdm(
                total=total_steps,
                initial=first_step,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}{postfix}]",
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows nothing: `update` gets what is shown."""

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that `step` is done.

        Args:
          step: steps done since the beginning of the run.
          values: the newest figures, by the names of `_FORMATS`; each may be absent. If
            all are, the previous ones are shown.
        """
        if not self._active:
            return
        self._figures = figures_text(values) or self._figures
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures, refresh=False)
            self._bar.update(step - self._step)
        self._step = step
        self._pace.passed(step)
        due = self._clock() - self._last_line >= self._every_seconds
        if self._bar is None and self._figures and (due or step == self._total):
            self._last_line = self._clock()
            line = (
                f"step {step}/{self._total}, {self._figures}, {self._pace.remaining()}"
            )
            print(line, file=self._stream, flush=True)

    def print_line(self, text: str) -> None:
        """Prints lines above the progress bar, if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._active:
            print(text, file=self._stream, flush=True)

    def show_scores(
        self, scores: Mapping[str, float], figures: Mapping[str, Figure]
    ) -> None:
        """Prints every score in a line of its own."""
        self.print_line(console.scores(scores, figures))

    def close(self) -> None:
        """Keeps the bar as it is, and moves to the next line."""
        if self._bar is not None:
            self._bar.close()


_FORMATS = {
    "loss": "loss {:.4f}",
    "images_per_second": "{:.0f} images/s",
    "mfu": "MFU {:.0%}",
    "peak_memory_gib": "{:.1f} GiB",
    "data_wait_fraction": "{:.0%} waiting for data",
}


def figures_text(values: Mapping[str, float]) -> str:
    """Returns the figures of a run in a line; those without a format are left out."""
    shown = [style.format(values[k]) for k, style in _FORMATS.items() if k in values]
    return ", ".join(shown)
