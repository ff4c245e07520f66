"""Runs a sweep: trains the points that are missing, collects them, writes the page."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from clipin_jax.config import to_json
from clipin_jax.errors import DONE, FAILED, REQUEUE, ClipinError
from clipin_jax.report.run_history import read_histories
from clipin_jax.report.text_format import count_noun
from clipin_jax.runs.folder import write_file
from clipin_jax.runs.interrupt import catch_interrupt
from clipin_jax.runs.owner import own_folder
from clipin_jax.storage import local_path, write_output
from clipin_jax.sweep import outcomes
from clipin_jax.sweep.definition import (
    Sweep,
    best_command,
    check_home,
    open_home,
    override_texts,
    read_sweep,
)
from clipin_jax.sweep.outcomes import Point, collect_points, count_states, ranked
from clipin_jax.sweep.pages.page import write_page
from clipin_jax.sweep.preview import preview_text
from clipin_jax.sweep.processes.listed_runs import (
    ListedRuns,
    forget_failures,
    missing_runs,
)
from clipin_jax.sweep.processes.pool import ProcessPool, RunSource
from clipin_jax.sweep.processes.run_scores import run_scores
from clipin_jax.sweep.processes.runs import Run

PAGE = "sweep.html"
_CONFIG_FILE = '''"""{title}

It is {spec} with
{settings}
"""

from clipin_jax.config import from_json

CONFIG = r"""
{config}
"""


def get_config(arg=None):
    """Returns the config."""
    return from_json(CONFIG)
'''


def default_home(sweep: Sweep) -> Path:
    """Returns the folder of a sweep without --workdir."""
    return Path("runs/sweeps") / sweep.name


def preview(sweep: Sweep, workdir: str | Path | None = None, jobs: int = 1) -> int:
    """Prints the points of a sweep, how many programs they compile, and the time.

    The time is that of finished points, or of a short trial in a process of its own.

    Raises:
      ClipinError: the folder holds another sweep, or the short trial failed.
    """
    home = local_path(workdir or default_home(sweep))
    check_home(sweep, home)
    print(preview_text(sweep, home, jobs))
    return DONE


def run_sweep(sweep: Sweep, workdir: str | Path | None = None, jobs: int = 1) -> int:
    """Trains every point of a sweep that is not done yet, then writes its page.

    Args:
      sweep: checked.
      workdir: folder of the sweep; `default_home` if None. A sweep that was stopped
        there is resumed; failed points are tried again.
      jobs: how many runs train at a time, each in a process with its share of the CPUs.
        More than one needs CPUs: a TPU or GPU serves one process.

    Returns:
      0 when done, 75 when stopped with everything saved, 1 when points failed.

    Raises:
      ClipinError: the folder is wrong.
    """
    home = local_path(workdir or default_home(sweep))
    open_home(sweep, home)
    return _work(sweep, home, jobs, retry=True)


def work(home: Path, jobs: int = 1) -> int:
    """Trains points of the sweep in a folder until none is left for this worker.

    Points that others train or that failed are left to them. Returns as `run_sweep`.

    Raises:
      ClipinError: the folder holds no sweep.
    """
    return _work(read_sweep(home), home, jobs, retry=False)


def show_best(home: Path, output: Path | None = None) -> int:
    """Prints the command of the best point in a folder, and writes its config.

    Args:
      home: the folder of a sweep.
      output: a Python file, which `clipin train` takes; None for none.

    Raises:
      ClipinError: the folder holds no sweep, no point is done, or the file cannot be
        written.
    """
    sweep = read_sweep(home)
    points = ranked(sweep, collect_points(sweep, home))
    if not points:
        raise ClipinError(f"{home}: no point of the sweep is done")
    best = points[0]
    _print_best(sweep, best)
    if output is not None:
        write_output(output, _config_file(sweep, best))
        print(f"clipin: its config is in {output}")
    return DONE


def _config_file(sweep: Sweep, point: Point) -> str:
    """Returns Python that returns the config of a point."""
    scores = zip(sweep.goals, point.values, strict=True)
    shown = ", ".join(f"{goal.metric} {goal.text(x)}" for goal, x in scores)
    settings = "\n".join(f"    {text}" for text in override_texts(point.assignment))
    return _CONFIG_FILE.format(
        title=f"The best point of the sweep {sweep.name}: {shown}.",
        spec=sweep.spec,
        settings=settings,
        config=to_json(sweep.config(point.assignment)).rstrip(),
    )


def _work(sweep: Sweep, home: Path, jobs: int, *, retry: bool) -> int:
    if jobs < 1:
        raise ClipinError(f"--jobs is {jobs}: it must be at least 1")
    with _source(sweep, home, retry) as source, catch_interrupt() as interrupt:
        print(
            f"clipin: sweep {sweep.name}: {_size(sweep)}, "
            f"{count_noun(source.left(), 'run')} left; {jobs} at a time in {home}",
            flush=True,
        )
        with ProcessPool() as processes:
            processes.train(source, jobs, interrupt)
    points = collect_points(sweep, home)
    _write(sweep, home, points)
    if interrupt.is_set():
        print("clipin: stopped; run the same command to resume", file=sys.stderr)
        return REQUEUE
    lost = any(p.state in (outcomes.FAILED, outcomes.DIVERGED) for p in points)
    return FAILED if lost else DONE


def _size(sweep: Sweep) -> str:
    points = len(sweep.assignments()) if sweep.is_listed else sweep.trials
    return f"{points} points" + f" x {sweep.seeds} seeds" * (sweep.seeds > 1)


@contextlib.contextmanager
def _source(sweep: Sweep, home: Path, retry: bool) -> Iterator[RunSource]:
    """Yields what gives out the runs of a sweep.

    retry: whether to try failed points again, and to wait for those of other workers.
    """
    if not sweep.has_journal:
        runs = [run for point in sweep.assignments() for run in sweep.runs(point, home)]
        missing = missing_runs({run.place: run for run in runs}.values())
        if retry:
            forget_failures(missing)
        else:
            missing = [run for run in missing if not run.failure.is_file()]

        def describe(run: Run) -> str:
            return describe_scores(sweep, run)

        yield ListedRuns(missing, patient=retry, describe=describe)
        return
    from clipin_jax.sweep.search.trial_runs import (  # they need Optuna
        TrialRuns,
        worker_folder,
    )

    worker = secrets.token_hex(4)
    with own_folder(worker_folder(home, worker)):
        trials = TrialRuns(sweep, home, worker, patient=retry)
        if retry:
            trials.retry_failed()
        yield trials


def describe_scores(sweep: Sweep, run: Run) -> str:
    """Returns the scores of a run that is done: "retrieval/mean_recall 46.0%; "."""
    if not run.is_finished():
        return ""
    (history,) = read_histories([run.folder])
    values = run_scores(history, [goal.metric for goal in sweep.goals]).values
    return "".join(f"{g.metric} {g.text(values[g.metric])}; " for g in sweep.goals)


def _write(sweep: Sweep, home: Path, points: list[Point]) -> None:
    write_file(home / "results.json", outcomes.results_json(sweep, points))
    page = write_page(sweep, points, home / PAGE)
    print(f"clipin: {count_states(points) or 'no points'}; {page}")
    for best in ranked(sweep, points)[:1]:
        _print_best(sweep, best)


def _print_best(sweep: Sweep, best: Point) -> None:
    scores = zip(sweep.goals, best.values, strict=True)
    shown = ", ".join(f"{goal.metric} {goal.text(x)}" for goal, x in scores)
    print(f"clipin: best, {shown}: {best_command(sweep, best.assignment)}")
