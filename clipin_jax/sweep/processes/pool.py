"""The processes of a study or a sweep: started, given runs, stopped and replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from clipin_jax.config import to_json
from clipin_jax.data.cpus import available_cpus
from clipin_jax.report.text_format import count_noun
from clipin_jax.runs.folder import write_file
from clipin_jax.runs.interrupt import Interrupt
from clipin_jax.sweep.processes.runs import FAILED, STOPPED, TAKEN, Ended, Run
from clipin_jax.sweep.processes.tasks import Watcher, serve_tasks, train_run

_POLL = 0.5  # seconds between two looks at the interrupt, and for more runs
_PATIENCE = 60  # seconds that a process has to end
MEMORY = "the process ended, perhaps because memory ran out"


class RunSource(Protocol):
    """Says which run comes next, and hears how each one ended."""

    def next(self) -> tuple[Run, Watcher | None] | None:
        """Returns a run to train now, and who may stop it; None if none is ready."""
        ...

    def finish(self, run: Run, ended: Ended) -> str:
        """Notes how a run ended; returns what to print beside its name."""
        ...

    def left(self) -> int:
        """Returns how many runs are not begun, about; 0 if none will come."""
        ...


class TaskProcess:
    """A process that does one task after the other, see `tasks`.

    Attributes:
      pipe: carries tasks and answers; ready for reading when a task is done.
      cores: the CPUs that the process may use.
    """

    def __init__(self, cores: Sequence[int]) -> None:
        """Starts the process."""
        context = multiprocessing.get_context("spawn")  # jax has threads: no fork
        self.pipe, other_end = context.Pipe()
        self.cores = cores
        self._process: SpawnProcess = context.Process(
            target=serve_tasks, args=(other_end, cores)
        )
        self._process.start()
        other_end.close()

    def send(self, task: Callable[..., Any], *arguments: Any) -> None:
        """Gives the process a task; it must have answered the one before.

        task: a function of a module.
        """
        self.pipe.send((task, arguments))

    def receive(self) -> tuple[Any, str]:
        """Returns the result of a task and the error message, "" if there is none.

        Raises:
          EOFError, ConnectionResetError: the process has ended.
        """
        return self.pipe.recv()

    def wait(self, interrupt: Interrupt) -> bool:
        """Waits for the answer; returns False if the interrupt is set before."""
        while not self.pipe.poll(_POLL):
            if interrupt.is_set():
                return False
        return True

    def stop_task(self) -> None:
        """Makes a run that trains save and end; another task ends with its process."""
        self._process.terminate()

    def join(self) -> None:
        """Waits for a process that has ended."""
        self._process.join()
        self.pipe.close()

    def close(self) -> None:
        """Ends the process; a run that trains saves first."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self._process.join(timeout=_PATIENCE)
        if self._process.is_alive():
            self._process.terminate()
        self.join()


class ProcessPool(contextlib.AbstractContextManager["ProcessPool"]):
    """The processes that train the runs of a study or a sweep."""

    def __init__(self) -> None:
        self._processes: list[TaskProcess] = []
        self._start = time.monotonic()
        self._ended = 0

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.close()

    def open(self, cores: Sequence[int]) -> TaskProcess:
        """Starts a process, which ends with the pool."""
        self._processes.append(TaskProcess(cores))
        return self._processes[-1]

    def train(self, source: RunSource, jobs: int, interrupt: Interrupt) -> None:
        """Trains runs until none is left or the interrupt is set.

        Args:
          source: of the runs.
          jobs: how many train at a time. A run whose process ends, or which raises,
            gets a file that says why.
          interrupt: makes runs save and end.
        """
        stopping = False
        busy: dict[Connection, tuple[TaskProcess, Run]] = {}
        free = [self.open(cores) for cores in share_cpus(min(jobs, source.left()))]
        while True:
            while free and not interrupt.is_set() and (begun := source.next()):
                process = free.pop()
                _begin(process, *begun)
                busy[process.pipe] = process, begun[0]
            if not busy and (interrupt.is_set() or not source.left()):
                return
            if interrupt.is_set() and not stopping:
                stopping = True
                for process, _ in busy.values():
                    process.stop_task()
            for pipe in _wait(list(busy)):
                process, run = busy.pop(pipe)
                ended, alive = _receive(process, run, interrupt.is_set())
                self._report(run, ended, source, len(busy))
                free.append(process if alive else self._replace(process))

    def _replace(self, process: TaskProcess) -> TaskProcess:
        self._processes.remove(process)
        process.join()
        return self.open(process.cores)

    def _report(self, run: Run, ended: Ended, source: RunSource, busy: int) -> None:
        """Writes why a run failed, tells the source, and prints how it went."""
        if ended.state == FAILED:
            write_file(run.failure, ended.error)
        more = source.finish(run, ended)
        if ended.state == FAILED:
            print(f"clipin: {run.name} failed: {ended.error}", file=sys.stderr)
        if ended.state in (FAILED, STOPPED, TAKEN):
            return
        self._ended += 1
        left = source.left() + busy
        seconds = (time.monotonic() - self._start) / self._ended * left
        print(
            f"clipin: {run.name}: {more}{ended.seconds:.0f} s; "
            f"{count_noun(left, 'run')} left"
            + f", about {seconds / 60:.0f} min"
            * (left > 0),
            flush=True,
        )


def share_cpus(jobs: int) -> list[list[int]]:
    """Returns the CPUs of each job; jobs share CPUs if there are more jobs."""
    cpus = available_cpus()
    if jobs > len(cpus):
        return [[cpus[i % len(cpus)]] for i in range(jobs)]
    return [cpus[i::jobs] for i in range(jobs)]


def _begin(process: TaskProcess, run: Run, watcher: Watcher | None) -> None:
    config = to_json(run.config)
    process.send(train_run, config, run.folder, run.log, run.claim, watcher)


def _receive(process: TaskProcess, run: Run, stopping: bool) -> tuple[Ended, bool]:
    """Returns the outcome of a run, and whether its process lives on."""
    try:
        result, error = process.receive()
    except (EOFError, ConnectionResetError):
        if stopping:  # it was told to stop before its run had begun
            return Ended(STOPPED), False
        return Ended(FAILED, error=f"{MEMORY}; see {run.log}"), False
    return (Ended(FAILED, error=error) if error else Ended(*result)), True


def _wait(pipes: list[Connection]) -> list[Any]:
    if pipes:
        return wait(pipes, timeout=_POLL)
    time.sleep(_POLL)
    return []
