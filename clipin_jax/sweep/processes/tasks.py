"""What a process of a study or a sweep does: tasks, one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from clipin_jax.config import from_json
from clipin_jax.errors import REQUEUE, ClipinError


class Watcher(Protocol):
    """Tells a run when to stop; it is sent to the process that trains."""

    def open(self, folder: Path) -> Callable[[int, Mapping[str, float]], bool]:
        """Returns the `training.loop.Watch` of a run, which may have begun before."""
        ...


def serve_tasks(tasks: Connection, cores: Sequence[int]) -> None:
    """Does tasks until None arrives; answers each with (result, error message).

    Args:
      tasks: receives (function, arguments).
      cores: the CPUs that this process may use.
    """
    # The parent passes Ctrl-C on to its runs; without a session of its own, the process
    # would get it twice.
    os.setsid()
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, cores)
    # Imported here: libraries count the CPUs when they start.
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    with contextlib.suppress(EOFError):  # the parent was killed
        while (task := tasks.recv()) is not None:
            function, arguments = task
            try:
                answer = (function(*arguments), "")
            except ClipinError as error:
                answer = (None, str(error))
            with contextlib.suppress(BrokenPipeError):  # likewise
                tasks.send(answer)


def train_run(
    config: str, folder: Path, log: Path, claim: Path, watcher: Watcher | None = None
) -> tuple[str, float]:
    """Trains a run, unless another process does.

    Args:
      config: JSON, as written by `to_json`.
      folder: of the run.
      log: the file for what is printed.
      claim: a folder that this process owns meanwhile.
      watcher: may stop the run after an evaluation.

    Returns:
      A state of `runs.Ended`, and seconds.

    Raises:
      ClipinError: the run failed.
    """
    from clipin_jax.runs.owner import FolderInUseError, own_folder
    from clipin_jax.sweep.processes.runs import DONE, PRUNED, STOPPED, TAKEN
    from clipin_jax.training.loop import never_stop, train

    start = time.monotonic()
    pruned = False

    def watch(step: int, scores: Mapping[str, float]) -> bool:
        nonlocal pruned
        pruned = should_stop(step, scores)
        return pruned

    try:
        with output_to(log), own_folder(claim):
            should_stop = watcher.open(folder) if watcher else never_stop
            code = REQUEUE
            if not watch(0, {}):
                code = train(from_json(config).lock(), folder, watch=watch)
    except KeyboardInterrupt:  # after everything has been saved
        code = REQUEUE
    except FolderInUseError:
        return TAKEN, 0.0
    stopped = PRUNED if pruned else STOPPED
    return stopped if code == REQUEUE else DONE, time.monotonic() - start


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
