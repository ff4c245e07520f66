"""The curves of a run: JSON lines always, TensorBoard if wanted; and the progress.

A line of `metrics.jsonl` is `{"step": int, "time": seconds, NAME: number or null}`.
JSON has no NaN: a number that is not finite is written as null.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import jax
from tqdm import tqdm

from clipin_jax.errors import ClipinError

FILE = "metrics.jsonl"


class MetricWriter:
    """Writes what a run measures into its folder; only process 0 does."""

    def __init__(self, workdir: str | Path, *, tensorboard: bool = True):
        """Open the curves of a run, which may be those of an earlier start.

        Args:
          workdir: the run's folder.
          tensorboard: also write event files, into its folder `tensorboard`.
        """
        self._path = Path(workdir) / FILE
        self._active = jax.process_index() == 0
        self._tensorboard = tensorboard and self._active
        self._start = time.time() - self._seconds_so_far()
        self._events: Any = None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a line; scalars of any kind, `step` counts updates.

        Raises:
          ClipinError: the file can not be written, such as on a full disk.
        """
        if not self._active:
            return
        numbers = {name: float(value) for name, value in values.items()}
        row = {"step": step, "time": round(time.time() - self._start, 3)}
        row |= {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
            self._write_events(step, numbers)
        except OSError as error:
            raise ClipinError(
                f"can not write {self._path}: {error.strerror or error}"
            ) from error

    def truncate_after(self, step: int) -> None:
        """Forget what an earlier start wrote after `step`: it is measured again.

        A last line that a crash cut short is forgotten too.
        """
        if not self._active or not self._path.exists():
            return
        rows = read_metrics(self._path.parent)
        kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(kept))
        temporary.replace(self._path)
        self._start = time.time() - self._seconds_so_far()
        if self._tensorboard:
            self._events = self._open_events(purge_step=step + 1)

    def close(self) -> None:
        """Flush; nothing may be written afterwards."""
        if self._events is not None:
            self._events.close()

    def _seconds_so_far(self) -> float:
        rows = read_metrics(self._path.parent)
        return rows[-1]["time"] if rows else 0.0

    def _open_events(self, purge_step: int | None = None) -> Any:
        from tensorboardX import SummaryWriter  # slow to import, and optional

        folder = str(self._path.parent / "tensorboard")
        return SummaryWriter(folder, purge_step=purge_step, flush_secs=30)

    def _write_events(self, step: int, numbers: Mapping[str, float]) -> None:
        if not self._tensorboard:
            return
        events = self._events = self._events or self._open_events()
        for name, number in numbers.items():
            events.add_scalar(name, number, step)


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl` in order; a torn last line is left out.

    Raises:
      ClipinError: another line is damaged.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not {"step", "time"} <= row.keys():
                raise ValueError("no step or no time")
        except (ValueError, AttributeError) as error:
            if number == len(lines):
                break
            raise ClipinError(
                f"{path}, line {number} is damaged: remove that line"
            ) from error
        if line.endswith(b"\n"):
            rows.append(row)
    return rows


class Throughput:
    """Images per second and the share of time spent waiting for data."""

    def __init__(self, batch_size: int, clock: Callable[[], float] = time.perf_counter):
        """Start to measure.

        Args:
          batch_size: images in a step, over all devices.
          clock: seconds.
        """
        self._batch_size = batch_size
        self._clock = clock
        self._since = clock()
        self._waited = 0.0
        self._steps = 0

    def step(self, waited: float) -> None:
        """Count one step, in which the device may have waited `waited` s for data."""
        self._steps += 1
        self._waited += waited

    def read(self) -> dict[str, float]:
        """The figures since the last reading, which start anew."""
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        figures = {
            "images_per_second": self._steps * self._batch_size / seconds,
            "data_wait_fraction": min(self._waited / seconds, 1.0),
        }
        self._since, self._waited, self._steps = now, 0.0, 0
        return figures


class Progress:
    """A bar on a terminal, elsewhere a plain line every few seconds."""

    def __init__(
        self,
        total_steps: int,
        first_step: int = 0,
        *,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Start at `first_step`; processes other than the first show nothing.

        Args:
          total_steps: where the run ends.
          first_step: where it begins, not 0 when it is resumed.
          every_seconds: how often a plain line comes where there is no terminal.
          stream: by default stderr.
          clock: seconds.
        """
        self._stream = stream or sys.stderr
        self._active = jax.process_index() == 0
        self._total, self._step = total_steps, first_step
        self._every_seconds, self._clock = every_seconds, clock
        self._first: tuple[int, float] | None = None
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

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show that `step` is done.

        Args:
          step: steps done since the beginning of the run.
          values: the newest "loss", "images_per_second" and "data_wait_fraction", those
            that there are.
        """
        if not self._active:
            return
        self._figures = _figures(values) or self._figures
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures, refresh=False)
            self._bar.update(step - self._step)
        self._step = step
        self._first = self._first or (step, self._clock())
        due = self._clock() - self._last_line >= self._every_seconds
        if self._bar is None and self._figures and (due or step == self._total):
            self._last_line = self._clock()
            line = f"step {step}/{self._total}, {self._figures}, {self._remaining()}"
            print(line, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Print something that stays, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._active:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()

    def _remaining(self) -> str:
        """By the pace since the first step ended, which had to be compiled."""
        step, began = self._first or (self._step, 0.0)
        if self._step == step:
            return "ETA ?"
        seconds = (self._clock() - began) / (self._step - step)
        return f"ETA {tqdm.format_interval(seconds * (self._total - self._step))}"


def _figures(values: Mapping[str, float]) -> str:
    formats = {
        "loss": "loss {:.4f}",
        "images_per_second": "{:.0f} images/s",
        "data_wait_fraction": "{:.0%} waiting for data",
    }
    shown = [style.format(values[k]) for k, style in formats.items() if k in values]
    return ", ".join(shown)
