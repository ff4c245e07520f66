"""The curves of a run: JSON lines always, TensorBoard if wanted; and the progress.

A line of `metrics.jsonl` is `{"step": int, "time": seconds, NAME: number or null}`.
JSON has no NaN: a number that is not finite is written as null.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

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
