"""Runs a study: trains what is missing, collects the results, writes the pages.

A study is a sweep over methods, levels and seeds: the processes are those of a sweep.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.config import to_json
from clipin_jax.data.cpus import available_cpus
from clipin_jax.errors import DONE, FAILED, REQUEUE, ClipinError
from clipin_jax.runs.folder import write_file
from clipin_jax.runs.interrupt import Interrupt, catch_interrupt
from clipin_jax.storage import local_path
from clipin_jax.study.collect_results import collect_results
from clipin_jax.study.html_page import write_html_page
from clipin_jax.study.markdown_page import study_markdown
from clipin_jax.study.results_json import read_results, results_text
from clipin_jax.study.step_costs import measure_in_process
from clipin_jax.study.study_file import Study, load_study
from clipin_jax.sweep.processes.listed_runs import (
    ListedRuns,
    forget_failures,
    missing_runs,
)
from clipin_jax.sweep.processes.pool import MEMORY, ProcessPool


def run_study(
    spec: str, workdir: str | Path | None = None, jobs: int = 1, costs: bool = True
) -> int:
    """Trains every run of a study that is not done yet, then writes its pages.

    Args:
      spec: "NAME", "NAME:OPTIONS" or the path of a study file.
      workdir: folder of the study; `runs/studies/NAME` if None. A study that was
        stopped there is resumed.
      jobs: how many runs train at a time, each in a process with its share of the CPUs.
        More than one needs CPUs: a TPU or GPU serves one process.
      costs: whether to time the steps of all methods at the end, unless this was done.

    Returns:
      0 when done, 75 when stopped with everything saved, 1 when runs failed.

    Raises:
      ClipinError: the study or its folder is wrong.
    """
    if jobs < 1:
        raise ClipinError(f"--jobs is {jobs}: it must be at least 1")
    study = load_study(spec)
    folder = local_path(workdir or Path("runs/studies") / study.name)
    _make_folder(folder)
    missing = missing_runs(study.runs(folder).values())
    forget_failures(missing)
    done = len(study.configs) - len(missing)
    print(
        f"clipin: study {study.name}: {len(study.configs)} runs, {done} of them done;"
        f" {jobs} at a time in {folder}",
        flush=True,
    )
    with catch_interrupt() as interrupt, ProcessPool() as processes:
        processes.train(ListedRuns(missing), jobs, interrupt)
        if costs and not interrupt.is_set():
            _measure_costs(study, folder, processes, interrupt)
    results = collect_results(study, folder)
    _write_pages(results, folder)
    if interrupt.is_set():
        print("clipin: stopped; run the same command to resume", file=sys.stderr)
        return REQUEUE
    failed = any("failed" in score for score in results["scores"])
    return FAILED if failed else DONE


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipinError(
            f"cannot make {folder}: {error.strerror}; choose another --workdir"
        ) from error


def _measure_costs(
    study: Study, folder: Path, processes: ProcessPool, interrupt: Interrupt
) -> None:
    """Times the steps of all methods with all CPUs, unless this was done."""
    path = folder / "costs.json"
    if path.is_file():
        return
    print("clipin: timing the steps of all methods", flush=True)
    process = processes.open(available_cpus())
    configs, baselines = _methods_and_baselines(study)
    log = folder / "logs" / "costs.txt"
    process.send(measure_in_process, configs, baselines, log)
    if not process.wait(interrupt):
        process.stop_task()
        return
    try:
        costs, error = process.receive()
    except EOFError:
        costs, error = None, MEMORY
    if error:
        print(f"clipin: the steps were not timed: {error}", file=sys.stderr)
    else:
        write_file(path, json.dumps(costs, indent=1) + "\n")


def _methods_and_baselines(study: Study) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the config of each method as JSON, and the baseline of each."""
    pairs = dict(study.facts.get("pairs", ()))
    configs, baselines = {}, {}
    for (method, *_), config in study.configs.items():
        if method not in configs:
            configs[method] = to_json(config)
            baseline = study.facts.get("baseline", method)
            baselines[method] = pairs.get(method, baseline)
    return configs, baselines


def write_study_page(results: Path) -> Path:
    """Writes the page of a results.json into the current folder, as `NAME.html`.

    Returns:
      The page's path.

    Raises:
      ClipinError: the file is damaged, or the page cannot be written.
    """
    page = Path(results.stem).with_suffix(".html")
    return write_html_page(read_results(results), page)


def _write_pages(results: Mapping[str, Any], folder: Path) -> None:
    write_file(folder / "results.json", results_text(results))
    write_file(folder / "results.md", study_markdown(results))
    page = write_html_page(results, folder / "study.html")
    print(f"clipin: {page}; in its folder results.json and results.md", flush=True)
