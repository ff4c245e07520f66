"""Evaluates a run by a suite of many evaluations: core, paper, full or a file.

A suite is a file with `get_evals(data, config)`, which returns the evaluations for the
available data sets (`data_folder`). Entries whose data or part of the model is missing
are skipped and listed.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import call_file, config_folder, list_purposes
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators import make_available
from clipin_jax.evaluators.base import Evaluator, shown_figures
from clipin_jax.evaluators.datasets.data_folder import DataFolder
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.feature_cache import FeatureCache
from clipin_jax.inference.foreign import check_output
from clipin_jax.inference.open_model import open_source
from clipin_jax.training import console
from clipin_jax.training.evaluate import evaluate_state, write_results


def list_suites() -> dict[str, str]:
    """Returns the suites by name, with the first line of their docstrings."""
    return list_purposes(config_folder() / "suites")


def load_suite(name: str, data: DataFolder, config: ConfigDict) -> dict[str, Any]:
    """Returns the entries of a suite, in the form of `config.evals`.

    Args:
      name: one of `list_suites`, or the path of a file.
      data: the data sets to evaluate on.
      config: of the run.

    Returns:
      Name -> entry, or the reason why there is none.

    Raises:
      ClipinError: there is no such suite, or its file is wrong.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = config_folder() / "suites" / f"{name}.py"
    if not path.is_file():
        raise ClipinError(
            f"no suite {name!r}, neither a .py file nor a known name: "
            f"{did_you_mean(name, list_suites())}"
        )
    evals = call_file(path, "get_evals", data, config)
    if isinstance(evals, ConfigDict):
        evals = evals.to_dict()
    if not isinstance(evals, Mapping) or not all(
        isinstance(entry, Mapping | str) for entry in evals.values()
    ):
        raise ClipinError(
            f"suite {path}: get_evals(data, config) must return a dict whose entries "
            "are dicts, as those of config.evals"
        )
    return dict(evals)


def evaluate_suite(
    workdir: str | Path,
    suite: str,
    *,
    data: str = "",
    only: Sequence[str] = (),
    step: int | None = None,
    output: str | Path | None = None,
) -> dict[str, float]:
    """Evaluates a checkpoint by a suite, prints a table and writes JSON.

    The file is rewritten after each evaluation, so that an interrupt loses at most one.

    Args:
      workdir: the run's folder, by path or URL; the run may still be training.
      suite: its name, or the path of a file.
      data: a folder of data sets, see `data_folder`; "" for the embedded scenes.
      only: entries to keep, by data set, protocol or both ("ucm:retrieval"); all if ().
      step: the checkpoint's step; None for the newest undamaged one.
      output: the JSON file, by path or URL; `eval/<step>-<suite>.json` in the run's
        folder if None.

    Returns:
      `DATASET:PROTOCOL/METRIC` -> number.

    Raises:
      ClipinError: no run, checkpoint, suite or data, or nothing that can be evaluated.
    """
    check_output(workdir, output)
    run = open_source(workdir, FeatureCache())
    config, reasons = _suite_config(run.config, suite, data, only)
    state, step = run.restore(step)
    evaluators, more_reasons = make_available(config.evals, run.encoder)
    skipped = reasons | more_reasons
    name = Path(suite).stem
    path = output or storage.join(run.name, f"eval/{step}-{name}.json")

    def write(scores: Mapping[str, float]) -> None:
        finished = {key.partition("/")[0] for key in scores}
        write_results(
            run.name, step, config=config, scores=scores, output=path,
            evaluators={k: v for k, v in evaluators.items() if k in finished},
            suite=name, skipped=skipped,
        )  # fmt: skip

    with jax.set_mesh(run.encoder.mesh):
        scores = _run_evaluators(evaluators, state, skipped, write)
    if jax.process_index() == 0:
        figures = shown_figures(evaluators, scores)
        print(f"clipin: suite {name} at step {step}\n{console.table(scores, figures)}")
        print(console.left_out(skipped), end="")
        print(f"clipin: written to {storage.full_path(path)}")
    if not scores:
        raise ClipinError(_nothing(name, skipped))
    return scores


def _suite_config(
    config: ConfigDict, suite: str, data: str, only: Iterable[str]
) -> tuple[ConfigDict, dict[str, str]]:
    """Returns the run's config with the evals of a suite.

    Returns also the names of the entries without data, with the reasons.
    """
    entries = _selected(load_suite(suite, _data_folder(data, config), config), only)
    reasons = {name: text for name, text in entries.items() if isinstance(text, str)}
    config = ConfigDict(config.to_dict())
    config.evals = {name: e for name, e in entries.items() if name not in reasons}
    return config, reasons


def _data_folder(folder: str, config: ConfigDict) -> DataFolder:
    """Returns the data sets of a folder; with the scenes if the run trained on them."""
    trained_on = config.data.source
    if trained_on.name == "scenes":
        keys = [key for key in ("size", "objects") if key in trained_on]
        return DataFolder(folder, {key: trained_on[key] for key in keys})
    return DataFolder(folder, None if folder else {})


def _selected(entries: Mapping[str, Any], only: Iterable[str]) -> dict[str, Any]:
    """Returns the entries that `only` names; all of them if it is empty."""
    names = {name: {name, *name.split(":")} for name in entries}
    only = set(only)
    for name in sorted(only - set().union(*names.values())):
        parts = {part for name in entries for part in name.split(":")}
        raise ClipinError(f"--only {name}: {did_you_mean(name, parts)}")
    return {n: e for n, e in entries.items() if not only or names[n] & only}


def _run_evaluators(
    evaluators: Mapping[str, Evaluator],
    state: ModelState,
    skipped: dict[str, str],
    write: Callable[[Mapping[str, float]], None],
) -> dict[str, float]:
    """Returns the scores; adds the evaluators that fail to `skipped`."""
    scores: dict[str, float] = {}
    for number, (name, evaluator) in enumerate(evaluators.items(), start=1):
        start = time.perf_counter()
        try:
            scores |= evaluate_state({name: evaluator}, state)
        except ClipinError as error:
            skipped[name] = str(error).removeprefix(f"evals.{name}: ")
        if jax.process_index() == 0:
            write(scores)
            seconds = time.perf_counter() - start
            progress = f"clipin: {number} of {len(evaluators)}, {name}: {seconds:.1f} s"
            print(progress, file=sys.stderr)
    return scores


def _nothing(suite: str, skipped: Mapping[str, str]) -> str:
    first = "; ".join(f"{name}: {text}" for name, text in list(skipped.items())[:3])
    return f"nothing of suite {suite} can be evaluated ({first})"
