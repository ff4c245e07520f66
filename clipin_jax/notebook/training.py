"""Trains in a cell: threads in place of worker processes, and a prompt after Ctrl-C."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import apply_changes
from clipin_jax.errors import REQUEUE
from clipin_jax.notebook.environment import in_ipython, in_notebook, show_output
from clipin_jax.notebook.live import LiveView
from clipin_jax.training.loop import train as train_run


def train_here(config: ConfigDict, workdir: str | Path, **options: Any) -> None:
    """Trains as `training.loop.train` does, whose options it takes.

    In IPython Ctrl-C, or the interrupt of a kernel, returns once everything is saved.

    Raises:
      ClipinError: as there.
      KeyboardInterrupt: as there, outside of IPython.
    """
    if in_ipython():
        config = with_threads(config)
    try:
        with _shown() as views:
            stopped = train_run(config, workdir, **options, **views) == REQUEUE
    except KeyboardInterrupt:
        if not in_ipython():
            raise
        stopped = True
    if stopped and in_ipython():
        print("clipin: to go on, run the cell again, or call resume() of the run")


@contextlib.contextmanager
def _shown() -> Iterator[dict[str, Any]]:
    """Yields the options by which a notebook shows a run; none elsewhere.

    What is printed meanwhile looks like no error there: stderr is red in a notebook.
    """
    if not in_notebook():
        yield {}
        return
    with contextlib.redirect_stderr(sys.stdout):
        yield {"make_view": functools.partial(LiveView, show=show_output)}


def with_threads(config: ConfigDict) -> ConfigDict:
    """Returns the config with threads of this process in place of worker processes.

    A worker would import `__main__`, which a notebook does not have as a file, so that
    classes of the notebook would be missing. Batches are the same either way.
    """
    processes = config.data.processes
    if not processes:
        return config
    threads = max(config.data.threads, processes)
    print(
        f"clipin: a notebook makes batches with threads: data.threads is {threads}, "
        f"data.processes 0 instead of {processes}"
    )
    return apply_changes(config, {"data.processes": 0, "data.threads": threads})
