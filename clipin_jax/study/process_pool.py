"""The processes of a study: started, given runs, stopped and replaced."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from clipin_jax.config import to_json
from clipin_jax.data.cpus import available_cpus
from clipin_jax.errors import REQUEUE
from clipin_jax.runs.folder import write_file
from clipin_jax.runs.interrupt import Interrupt
from clipin_jax.study.collect_results import failure_file
from clipin_jax.study.process_tasks import serve_tasks
from clipin_jax.study.study_file import PlannedRun, Study

_POLL = 0.5  # seconds between two looks at the interrupt
_PATIENCE = 60  # seconds that a process has to end
_MEMORY = "the process ended, perhaps because memory ran out"


class TaskProcess:
    """A process that does one task after the other, see `process_tasks`.

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

    def send(self, task: str, *arguments: Any) -> None:
        """Gives the process a task; it must have answered the one before."""
        self.pipe.send((task, arguments))

    def receive(self) -> tuple[Any, str]:
        """Returns the result of a task and the error message, "" if there is none.

        Raises:
          EOFError, ConnectionResetError: the process has ended.
        """
        return self.pipe.recv()

    def stop_task(self) -> None:
        """Makes a run that trains save and end; the process lives on."""
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


class StudyProcesses(contextlib.AbstractContextManager["StudyProcesses"]):
    """The processes that train the runs of a study and time its steps."""

    def __init__(self, study: Study, folder: Path):
        self._study, self._folder = study, folder
        self._processes: list[TaskProcess] = []
        self._start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.close()

    def train(
        self, missing: Sequence[PlannedRun], jobs: int, interrupt: Interrupt
    ) -> None:
        """Trains runs until none is left or the interrupt is set.

        A run whose process ends, or which raises, gets a file that says why.
        """
        waiting, stopping = list(missing), False
        busy: dict[Connection, tuple[TaskProcess, PlannedRun]] = {}
        free = [self._open(cores) for cores in share_cpus(min(jobs, len(missing)))]
        while True:
            while free and waiting and not interrupt.is_set():
                planned, process = waiting.pop(0), free.pop()
                self._begin(process, planned)
                busy[process.pipe] = process, planned
            if not busy:
                return
            if interrupt.is_set() and not stopping:
                stopping = True
                for process, _ in busy.values():
                    process.stop_task()
            for pipe in wait(list(busy), timeout=_POLL):
                process, planned = busy.pop(pipe)  # type: ignore[arg-type]
                left = len(waiting) + len(busy), len(missing)
                alive = self._finish(process, planned, left, interrupt.is_set())
                free.append(process if alive else self._replace(process))

    def measure_costs(self) -> None:
        """Times the steps of all methods with all CPUs, unless this was done."""
        path = self._folder / "costs.json"
        if path.is_file():
            return
        print("clipin: timing the steps of all methods", flush=True)
        process = self._open(available_cpus())
        process.send("measure", *self._cost_task(), self._log(Path("costs")))
        try:
            costs, error = process.receive()
        except EOFError:
            costs, error = None, _MEMORY
        if error:
            print(f"clipin: the steps were not timed: {error}", file=sys.stderr)
        else:
            write_file(path, json.dumps(costs, indent=1) + "\n")

    def _cost_task(self) -> tuple[dict[str, str], dict[str, str]]:
        """Returns the config of each method as JSON, and the baseline of each."""
        facts = self._study.facts
        pairs = dict(facts.get("pairs", ()))
        configs, baselines = {}, {}
        for (method, *_), config in self._study.configs.items():
            if method not in configs:
                configs[method] = to_json(config)
                baselines[method] = pairs.get(method, facts.get("baseline", method))
        return configs, baselines

    def _open(self, cores: Sequence[int]) -> TaskProcess:
        self._processes.append(TaskProcess(cores))
        return self._processes[-1]

    def _replace(self, process: TaskProcess) -> TaskProcess:
        self._processes.remove(process)
        process.join()
        return self._open(process.cores)

    def _begin(self, process: TaskProcess, planned: PlannedRun) -> None:
        failure_file(self._folder, planned).unlink(missing_ok=True)
        config = to_json(self._study.configs[planned])
        folder = self._folder / planned.folder
        process.send("train", config, folder, self._log(planned.folder))

    def _finish(
        self,
        process: TaskProcess,
        planned: PlannedRun,
        left: tuple[int, int],
        stopping: bool,
    ) -> bool:
        """Receives the outcome of a run.

        Args:
          process: that trained it.
          planned: the run.
          left: how many runs are left, and how many there were.
          stopping: whether the run was told to stop.

        Returns:
          Whether the process lives on.
        """
        alive = True
        try:
            result, error = process.receive()
        except (EOFError, ConnectionResetError):
            alive, result = False, (REQUEUE, 0.0)
            error = f"{_MEMORY}; see {self._log(planned.folder)}"
            if stopping:  # it was told to stop before its run had begun
                error = ""
        if error:
            write_file(failure_file(self._folder, planned), error)
            print(f"clipin: {planned} failed: {error}", file=sys.stderr, flush=True)
        elif result[0] != REQUEUE:
            self._print_progress(planned, result[1], *left)
        return alive

    def _print_progress(
        self, planned: PlannedRun, seconds: float, left: int, total: int
    ) -> None:
        passed = time.monotonic() - self._start
        remaining = passed / (total - left) * left / 60
        print(
            f"clipin: {planned}: {seconds:.0f} s; {left} runs left, about "
            f"{remaining:.0f} min",
            flush=True,
        )

    def _log(self, name: Path) -> Path:
        return (self._folder / "logs" / name).with_suffix(".txt")


def share_cpus(jobs: int) -> list[list[int]]:
    """Returns the CPUs of each job; jobs share CPUs if there are more jobs."""
    cpus = available_cpus()
    if jobs > len(cpus):
        return [[cpus[i % len(cpus)]] for i in range(jobs)]
    return [cpus[i::jobs] for i in range(jobs)]
