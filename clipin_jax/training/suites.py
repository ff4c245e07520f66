"""Many evaluations of a run at once, by the name of a suite: core, paper or full.

A suite is a file with `get_evals(data, config)`, which says what to evaluate on the
data sets that are there (`data.data_folder`). What cannot be evaluated, for want of
data or of a part of the model, is said and left out.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.config import call_file, config_folder, first_lines
from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators import make_available
from clipin_jax.evaluators.base import Evaluator, shown_figures
from clipin_jax.evaluators.datasets.data_folder import DataFolder
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import restore_state
from clipin_jax.runs.folder import load_folder
from clipin_jax.training import console
from clipin_jax.training.evaluate import evaluate_state, write_results


def list_suites() -> dict[str, str]:
    """Each suite that is found by name, with the first line of its docstring."""
    return first_lines(config_folder() / "suites")


def load_suite(name: str, data: DataFolder, config: ConfigDict) -> dict[str, Any]:
    """The entries of a suite, as `config.evals` has them.

    Args:
      name: out of `list_suites`, or the path of a file.
      data: what there is to evaluate on.
      config: of the run.

    Returns:
      Name to entry, or to a text that says why there is none.

    Raises:
      ClipinError: no such suite, or what is wrong with the file.
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

    The file is written anew after each evaluation, so that what is done stays.

    Args:
      workdir: the run's folder; it may be training at the same time.
      suite: its name, or the path of a file.
      data: a folder of data sets, see `data.data_folder`; "": the embedded one.
      only: parts of the suite by data set, by protocol or by both, "ucm:retrieval".
      step: which checkpoint; the newest good one if None.
      output: the JSON file; `eval/<step>-<suite>.json` in the run's folder if None.

    Returns:
      `DATASET:PROTOCOL/METRIC` to number.

    Raises:
      ClipinError: no run, checkpoint, suite or data, or nothing that can be evaluated.
    """
    workdir = Path(workdir)
    config = load_folder(workdir)
    entries = load_suite(suite, _data(data, config), config)
    entries = _selected(entries, only)
    absent = {name: text for name, text in entries.items() if isinstance(text, str)}
    config = ConfigDict(config.to_dict())
    config.evals = {name: e for name, e in entries.items() if name not in absent}
    run = build_experiment(config)
    state, step = restore_state(workdir, step, run.abstract_state)
    evaluators, lacking = make_available(config, make_encode_fns(run.learner), run.mesh)
    skipped = absent | lacking
    name = Path(suite).stem
    path = Path(output) if output else workdir / "eval" / f"{step}-{name}.json"

    def write(values: Mapping[str, float]) -> None:
        done = {key.partition("/")[0] for key in values}
        write_results(
            workdir, step, config, {k: v for k, v in evaluators.items() if k in done},
            values, path, suite=name, skipped=skipped,
        )  # fmt: skip

    with jax.set_mesh(run.mesh):
        values = _run(evaluators, state, skipped, write)
    if jax.process_index() == 0:
        figures = shown_figures(evaluators, values)
        print(f"clipin: suite {name} at step {step}\n{console.table(values, figures)}")
        print(console.left_out(skipped), end="")
        print(f"clipin: written to {path}")
    if not values:
        raise ClipinError(_nothing(name, skipped))
    return values


def _data(folder: str, config: ConfigDict) -> DataFolder:
    """The data sets of a folder; the embedded ones too where the run learnt on them."""
    own = config.data.source
    if own.name == "scenes":
        kept = {key: own[key] for key in ("size", "objects") if key in own}
        return DataFolder(folder, kept)
    return DataFolder(folder, None if folder else {})


def _selected(entries: Mapping[str, Any], only: Iterable[str]) -> dict[str, Any]:
    """The entries that are asked for; all of them where nothing is."""
    words = {name: {name, *name.split(":")} for name in entries}
    known = set().union(*words.values())
    wanted = set(only)
    for word in sorted(wanted - known):
        parts = {part for name in entries for part in name.split(":")}
        raise ClipinError(f"--only {word}: {did_you_mean(word, parts)}")
    return {n: e for n, e in entries.items() if not wanted or words[n] & wanted}


def _run(
    evaluators: Mapping[str, Evaluator],
    state: TrainState,
    skipped: dict[str, str],
    write: Callable[[Mapping[str, float]], None],
) -> dict[str, float]:
    """Runs one evaluator after the other; adds to `skipped` what fails."""
    values: dict[str, float] = {}
    for number, (name, evaluator) in enumerate(evaluators.items(), start=1):
        begun = time.perf_counter()
        try:
            values |= evaluate_state({name: evaluator}, state)
        except ClipinError as error:
            skipped[name] = str(error)
        if jax.process_index() == 0:
            write(values)
            seconds = time.perf_counter() - begun
            said = f"clipin: {number} of {len(evaluators)}, {name}: {seconds:.1f} s"
            print(said, file=sys.stderr)
    return values


def _nothing(suite: str, skipped: Mapping[str, str]) -> str:
    first = "; ".join(f"{name}: {text}" for name, text in list(skipped.items())[:3])
    return f"nothing of suite {suite} can be evaluated ({first})"
