"""Runs what is missing of a study, several runs at a time, and writes what it found."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from clipin_jax.config import to_json
from clipin_jax.errors import DONE, FAILED, REQUEUE, ClipinError
from clipin_jax.runs.folder import is_finished, write_file
from clipin_jax.runs.interrupt import catch_interrupt
from clipin_jax.study.collect import collect, failure_file
from clipin_jax.study.grid import Cell, Study, load_study
from clipin_jax.study.markdown import markdown
from clipin_jax.study.page import write_page
from clipin_jax.study.results_file import as_json, read_results
from clipin_jax.study.worker import work

# One folder for all runs: what one has compiled, the next one loads.
_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(
        Path(tempfile.gettempdir()) / f"clipin_jax_cache_{os.getuid()}"
    ),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}


def run_study(
    spec: str, workdir: str | Path | None = None, jobs: int = 1, costs: bool = True
) -> int:
    """Trains every run of a study that is not done yet, then writes its page.

    Args:
      spec: "NAME", "NAME:OPTIONS" or the path of a study file.
      workdir: where all of it goes; `runs/studies/NAME` if None. A study that was
        stopped goes on there.
      jobs: how many runs train at a time, each in a process of its own with its share
        of the CPUs. More than one needs CPUs: a TPU or GPU serves one process.
      costs: whether the steps of all methods are timed at the end, if they never were.

    Returns:
      0 when done, 75 when stopped with everything saved, 1 when runs failed.

    Raises:
      ClipinError: what is wrong with the study or its folder.
    """
    if jobs < 1:
        raise ClipinError(f"--jobs is {jobs}: at least one run trains at a time")
    study = load_study(spec)
    folder = Path(workdir or Path("runs/studies") / study.name)
    missing = [
        cell
        for cell, config in study.configs.items()
        if not is_finished(config, folder / cell.folder)
    ]
    done = len(study.configs) - len(missing)
    print(
        f"clipin: study {study.name}: {len(study.configs)} runs, {done} of them done;"
        f" {jobs} at a time in {folder}",
        flush=True,
    )
    with catch_interrupt() as interrupt:
        crew = Crew(study, folder, jobs)
        try:
            crew.train(missing, interrupt)
            if costs and not interrupt.is_set():
                crew.measure()
        finally:
            crew.close()
    results = collect(study, folder)
    _write(results, folder)
    if interrupt.is_set():
        print("clipin: stopped; the same command goes on", file=sys.stderr)
        return REQUEUE
    failed = any("failed" in score for score in results["scores"])
    return FAILED if failed else DONE


def write_study_page(results: Path) -> Path:
    """Writes the page of a results.json into the present folder, as `NAME.html`.

    Raises:
      ClipinError: the file is damaged, or the page cannot be written.
    """
    return write_page(read_results(results), Path(results.stem).with_suffix(".html"))


def _write(results: dict[str, Any], folder: Path) -> None:
    write_file(folder / "results.json", as_json(results))
    write_file(folder / "results.md", markdown(results))
    page = write_page(results, folder / "study.html")
    print(f"clipin: {page}, and beside it results.json and results.md", flush=True)


@dataclass(eq=False)
class Worker:
    """A process that does tasks, the pipe to it, and the CPUs that it may use."""

    process: Any
    pipe: Any
    cores: list[int]


class Crew:
    """The processes that train the runs of a study, and what they are told."""

    def __init__(self, study: Study, folder: Path, jobs: int):
        self._study, self._folder, self._jobs = study, folder, jobs
        self._workers: list[Worker] = []
        self._began = time.monotonic()

    def train(self, missing: list[Cell], interrupt: threading.Event) -> None:
        """Trains cells until none is left or the interrupt is set."""
        waiting, told = list(missing), False
        busy: dict[Any, tuple[Worker, Cell]] = {}
        free = [self._hire(cores) for cores in _shares(min(self._jobs, len(missing)))]
        while True:
            while free and waiting and not interrupt.is_set():
                cell, worker = waiting.pop(0), free.pop()
                self._begin(worker, cell)
                busy[worker.pipe] = worker, cell
            if not busy:
                return
            if interrupt.is_set() and not told:
                told = True
                for worker, _ in busy.values():
                    worker.process.terminate()  # a run saves, then it ends
            for pipe in wait(list(busy), timeout=0.5):
                worker, cell = busy.pop(pipe)
                left = len(waiting) + len(busy), len(missing)
                alive = self._hear(worker, cell, left, interrupt.is_set())
                free.append(worker if alive else self._replace(worker))

    def measure(self) -> None:
        """Times the steps of all methods, with all CPUs, unless that was done."""
        path = self._folder / "costs.json"
        if path.is_file():
            return
        print("clipin: timing the steps of all methods", flush=True)
        facts = self._study.facts
        pairs = dict(facts.get("pairs", ()))
        configs, baselines = {}, {}
        for cell, config in self._study.configs.items():
            if cell.method not in configs:
                configs[cell.method] = to_json(config)
                base = pairs.get(cell.method, facts.get("baseline", cell.method))
                baselines[cell.method] = base
        worker = self._hire(sorted(_cpus()))
        worker.pipe.send(("measure", (configs, baselines, self._log(Path("costs")))))
        try:
            costs, error = worker.pipe.recv()
        except EOFError:
            costs, error = None, "the process ended, perhaps for want of memory"
        if error:
            print(f"clipin: the steps were not timed: {error}", file=sys.stderr)
        else:
            write_file(path, json.dumps(costs, indent=1) + "\n")

    def close(self) -> None:
        """Lets all processes go; what still trains saves first."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
            worker.process.join(timeout=60)
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()
            worker.pipe.close()

    def _hire(self, cores: list[int]) -> Worker:
        context = multiprocessing.get_context("spawn")  # jax has threads: no fork
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, cores))
        for key, value in _CACHE.items():
            os.environ.setdefault(key, value)  # what a process is born with
        process.start()
        theirs.close()
        self._workers.append(Worker(process, ours, cores))
        return self._workers[-1]

    def _replace(self, worker: Worker) -> Worker:
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        return self._hire(worker.cores)

    def _begin(self, worker: Worker, cell: Cell) -> None:
        failure_file(self._folder, cell).unlink(missing_ok=True)
        config = to_json(self._study.configs[cell])
        log = self._log(cell.folder)
        worker.pipe.send(("train", (config, self._folder / cell.folder, log)))

    def _hear(
        self, worker: Worker, cell: Cell, left: tuple[int, int], stopping: bool
    ) -> bool:
        """Takes the answer about a cell; whether the worker lives on."""
        alive = True
        try:
            result, error = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            alive, result = False, (REQUEUE, 0.0)
            log = self._log(cell.folder)
            error = f"its process ended, perhaps for want of memory; see {log}"
            if stopping:  # told to stop before its run had begun
                error = ""
        if error:
            write_file(failure_file(self._folder, cell), error)
            print(f"clipin: {cell} failed: {error}", file=sys.stderr, flush=True)
        elif result[0] != REQUEUE:
            self._say(cell, result[1], *left)
        return alive

    def _say(self, cell: Cell, seconds: float, left: int, total: int) -> None:
        passed = time.monotonic() - self._began
        remaining = passed / (total - left) * left / 60
        print(
            f"clipin: {cell}: {seconds:.0f} s; {left} runs left, about "
            f"{remaining:.0f} min",
            flush=True,
        )

    def _log(self, name: Path) -> Path:
        return (self._folder / "logs" / name).with_suffix(".txt")


def _cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _shares(jobs: int) -> list[list[int]]:
    """The CPUs of each job; they share them where there are fewer."""
    cpus = sorted(_cpus())
    if jobs > len(cpus):
        return [[cpus[i % len(cpus)]] for i in range(jobs)]
    return [cpus[i::jobs] for i in range(jobs)]
