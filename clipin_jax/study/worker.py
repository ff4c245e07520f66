"""A process that trains one run of a study after the other, as it is told."""

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
from clipin_jax.errors import ClipinError


def work(tasks: Connection, cores: Sequence[int]) -> None:
    """Does tasks until None comes; answers each with (result, error message).

    A task is (function name, arguments); cores: the CPUs that this process may use.
    """
    # Ctrl-C is for the study, which passes it on: a run gets it once, not twice.
    os.setsid()
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, cores)
    with contextlib.suppress(EOFError):  # the study was killed
        while (task := tasks.recv()) is not None:
            name, arguments = task
            try:
                tasks.send((TASKS[name](*arguments), ""))
            except ClipinError as error:
                tasks.send((None, str(error)))


def train_run(config: str, folder: Path, log: Path) -> tuple[int, float]:
    """Trains a run. config: as `to_json` wrote it. Returns exit code and seconds."""
    from clipin_jax.training.loop import train

    start = time.monotonic()
    with output_to(log):
        code = train(from_json(config).lock(), folder)
    return code, time.monotonic() - start


def measure(configs: dict[str, str], baseline: dict[str, str], log: Path) -> Any:
    """What a step of each method costs, see `cost.measure`."""
    from clipin_jax.study.cost import step_costs

    with output_to(log):
        read = {name: from_json(text).lock() for name, text in configs.items()}
        return step_costs(read, baseline)


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Sends what this process and the libraries in it print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(stream.fileno()) for stream in streams]
    with log.open("a") as file:
        for stream in streams:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        try:
            yield
        finally:
            for stream, descriptor in zip(streams, kept, strict=True):
                stream.flush()
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)


TASKS = {"train": train_run, "measure": measure}
