"""Runs a study: trains what is missing, collects the results, writes the pages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import DONE, FAILED, REQUEUE, ClipinError
from clipin_jax.runs.folder import is_finished, write_file
from clipin_jax.runs.interrupt import catch_interrupt
from clipin_jax.storage import local_path
from clipin_jax.study.collect_results import collect_results
from clipin_jax.study.html_page import write_html_page
from clipin_jax.study.markdown_page import study_markdown
from clipin_jax.study.process_pool import StudyProcesses
from clipin_jax.study.results_json import read_results, results_text
from clipin_jax.study.study_file import load_study


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
    missing = [
        planned
        for planned, config in study.configs.items()
        if not is_finished(config, folder / planned.folder)
    ]
    done = len(study.configs) - len(missing)
    print(
        f"clipin: study {study.name}: {len(study.configs)} runs, {done} of them done;"
        f" {jobs} at a time in {folder}",
        flush=True,
    )
    with catch_interrupt() as interrupt, StudyProcesses(study, folder) as processes:
        processes.train(missing, jobs, interrupt)
        if costs and not interrupt.is_set():
            processes.measure_costs()
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
