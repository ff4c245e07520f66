"""The metrics of a run as JSON lines: the file that every run has and reports read.

A line of `metrics.jsonl` is `{"step": int, "time": seconds, NAME: number or null}`.
JSON has no NaN: a number that is not finite is written as null.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.runs.loggers.base import RunFacts

FILE = "metrics.jsonl"


class JsonLines:
    """Writes `metrics.jsonl` into a run's folder."""

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the file, which an earlier start may have begun.

        Removes the lines after the run's step, and a last line that a crash cut short.
        """
        self._path = run.workdir / FILE
        if self._path.exists():
            rows = read_metrics(run.workdir)
            kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= run.step]
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text("".join(kept))
            temporary.replace(self._path)
        rows = read_metrics(run.workdir)
        self._start = time.time() - (rows[-1]["time"] if rows else 0.0)
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line.

        Raises:
          ClipinError: the file cannot be written, such as on a full disk.
        """
        row = {"step": step, "time": round(time.time() - self._start, 3)}
        row |= {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise ClipinError(
                f"cannot write {self._path}: {error.strerror or error}"
            ) from error

    def finish(self) -> None:
        """Does nothing: each line is on disk when `log` returns."""


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's `metrics.jsonl`; a torn last line is left out.

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
