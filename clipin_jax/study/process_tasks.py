"""What a process of a study does: train runs, one after the other, or time steps."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clipin_jax.config import from_json
from clipin_jax.errors import REQUEUE, ClipinError


def serve_tasks(tasks: Connection, cores: Sequence[int]) -> None:
    """Does tasks until None arrives; answers each with (result, error message).

    Args:
      tasks: receives (function name, arguments).
      cores: the CPUs that this process may use.
    """
    # The study passes Ctrl-C on to its runs; without a session of its own, the process
    # would get it twice.
    os.setsid()
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, cores)
    # Imported here: libraries count the CPUs when they start.
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    with contextlib.suppress(EOFError):  # the study was killed
        while (task := tasks.recv()) is not None:
            name, arguments = task
            try:
                tasks.send((_TASKS[name](*arguments), ""))
            except ClipinError as error:
                tasks.send((None, str(error)))


def train_run(config: str, folder: Path, log: Path) -> tuple[int, float]:
    """Trains a run.

    Args:
      config: JSON, as written by `to_json`.
      folder: of the run.
      log: the file for what is printed.

    Returns:
      Exit code and seconds.
    """
    from clipin_jax.training.loop import train

    start = time.monotonic()
    with output_to(log):
        try:
            code = train(from_json(config).lock(), folder)
        except KeyboardInterrupt:  # after everything has been saved
            code = REQUEUE
    return code, time.monotonic() - start


def measure_steps(
    configs: dict[str, str], baselines: dict[str, str], log: Path
) -> dict[str, dict[str, float]]:
    """Returns the costs of a step of each method, see `step_costs.measure_costs`."""
    from clipin_jax.study.step_costs import measure_costs

    with output_to(log):
        loaded = {name: from_json(text).lock() for name, text in configs.items()}
        return measure_costs(loaded, baselines)


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Sends what this process and its libraries print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    originals = [os.dup(stream.fileno()) for stream in streams]
    with log.open("a") as file:
        for stream in streams:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        try:
            yield
        finally:
            for stream, original in zip(streams, originals, strict=True):
                stream.flush()
                os.dup2(original, stream.fileno())
                os.close(original)


_TASKS: dict[str, Any] = {"train": train_run, "measure": measure_steps}
