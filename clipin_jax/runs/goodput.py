"""Goodput: the share of a run's wall time in which it made progress, over all starts.

Each start appends lines to `goodput.jsonl` of the run's folder, with the seconds that
it spent in each phase so far. The terms, and which time is lost, follow Google's
ml-goodput-measurement: productive steps against badput. Steps that were taken after the
last save and taken again by the next start are lost, and so is the time between two
starts.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clipin_jax.errors import ClipinError

FILE = "goodput.jsonl"
PHASES: tuple[str, ...] = ("start", "compile", "step", "data", "evaluate", "save")
LOST: str = "lost"  # steps taken again, and the time between two starts
_SECONDS = 60.0  # between two lines


class Goodput:
    """Counts the seconds that a start spends in each phase.

    Attributes:
      longest_step: seconds of the longest step so far, without the first one.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        """Starts in the phase `start`; `clock` returns seconds since the epoch."""
        self._clock = clock
        self._began = self._since = clock()
        self._phase = "start"
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._path: Path | None = None
        self._first_step, self._written = 0, 0.0
        self.longest_step, self._step_began = 0.0, 0.0

    def open(self, workdir: Path, step: int) -> None:
        """Chooses the folder to write to; `step` is the one that was resumed."""
        self._path, self._first_step = workdir / FILE, step
        self.write(step, force=True)

    def enter(self, phase: str) -> None:
        """Ends a phase and begins another."""
        now = self._clock()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    @contextlib.contextmanager
    def spending(self, phase: str) -> Iterator[None]:
        """Counts the time inside to another phase."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def step_starts(self) -> None:
        """Notes that a step is given to the devices, to know the longest one."""
        self.enter(self._phase)
        now, began = self._seconds["step"], self._step_began
        if began:
            self.longest_step = max(self.longest_step, now - began)
        self._step_began = now

    def starved(self, seconds: float) -> None:
        """Counts seconds in which devices had no step for lack of data."""
        self.enter(self._phase)
        seconds = min(seconds, self._seconds["step"])
        self._seconds["step"] -= seconds
        self._seconds["data"] += seconds
        self._step_began = max(0.0, self._step_began - seconds)

    def write(self, step: int, *, force: bool = False) -> None:
        """Appends a line, if the last one is a minute old or it is forced.

        Raises:
          ClipinError: the file cannot be written.
        """
        now = self._clock()
        if self._path is None or (now - self._written < _SECONDS and not force):
            return
        self.enter(self._phase)
        self._written = now
        seconds = {k: round(v, 3) for k, v in self._seconds.items()}
        row = {
            "began": round(self._began, 3),
            "time": round(now, 3),
            "first_step": self._first_step,
            "step": step,
            "seconds": seconds,
        }
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise ClipinError(
                f"cannot write {self._path}: {error.strerror or error}"
            ) from error

    def close(self, step: int) -> str:
        """Appends the last line; returns a sentence about the whole run, or ""."""
        self.write(step, force=True)
        summary = self._path and read_goodput(self._path.parent)
        return f"clipin: {summary.text()}" if summary else ""


class GoodputSummary(NamedTuple):
    """Where the wall time of a run went.

    Attributes:
      starts: how often the run was started.
      seconds: from the first start to the last line, by phase; "lost" besides.
    """

    starts: int
    seconds: dict[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """The shares of the whole time; that of "step" is the goodput."""
        total = max(sum(self.seconds.values()), 1e-9)
        return {phase: seconds / total for phase, seconds in self.seconds.items()}

    def text(self) -> str:
        """Returns one line, the largest losses first."""
        shares = self.shares
        total = _duration(sum(self.seconds.values()))
        starts = f" in {self.starts} starts" if self.starts > 1 else ""
        losses = [
            f"{NAMES[phase]} {share:.0%}"
            for phase, share in sorted(shares.items(), key=lambda item: -item[1])
            if phase != "step" and share >= 0.005
        ]
        of_time = f"{NAMES['step']} {shares['step']:.0%} of {total}{starts}"
        return f"{of_time} ({', '.join(losses)})" if losses else of_time


# Phases as pages and the terminal name them.
NAMES = {
    "start": "start",
    "compile": "compile",
    "step": "goodput",
    "data": "wait for data",
    "evaluate": "evaluate",
    "save": "save",
    LOST: "lost to restarts",
}


def _duration(seconds: float) -> str:
    """Returns a time such as "3 h 05 min", "12 min" or "40 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"


def read_goodput(workdir: Path) -> GoodputSummary | None:
    """Returns where the time of a run went, None if it was not counted.

    Damaged lines are left out.
    """
    starts: dict[float, dict[str, Any]] = {}
    with contextlib.suppress(OSError):
        for line in (workdir / FILE).read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)
                starts[float(row["began"])] = row
    return _summarize(list(starts.values())) if starts else None


def _summarize(starts: Sequence[Mapping[str, Any]]) -> GoodputSummary:
    seconds: dict[str, float] = dict.fromkeys((*PHASES, LOST), 0.0)
    for row in starts:
        for phase in PHASES:
            seconds[phase] += row["seconds"].get(phase, 0.0)
    for row, following in itertools.pairwise(starts):
        taken = row["step"] - row["first_step"]
        again = min(max(row["step"] - following["first_step"], 0), taken)
        if again:
            redone = row["seconds"]["step"] * again / taken
            seconds["step"] -= redone
            seconds[LOST] += redone
        seconds[LOST] += max(following["began"] - row["time"], 0.0)
    return GoodputSummary(len(starts), seconds)
