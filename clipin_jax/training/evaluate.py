"""Evaluates a state during a run, or a checkpoint of a run afterwards."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax import __version__, storage
from clipin_jax.config import apply_overrides, override_key
from clipin_jax.errors import ClipinError, explained
from clipin_jax.evaluators import make_evaluators
from clipin_jax.evaluators.base import Evaluator, Figure, shown_figures
from clipin_jax.evaluators.clip_benchmark import clip_benchmark_record
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.foreign import check_output
from clipin_jax.inference.open_model import Opened, open_source
from clipin_jax.runs.folder import environment, write_file
from clipin_jax.training import console

# Whether a run shall stop, by the step and the scores of an evaluation.
Watch = Callable[[int, Mapping[str, float]], bool]


def never_stop(step: int, scores: Mapping[str, float]) -> bool:
    """Lets a run go on: the `Watch` of a run that nobody watches."""
    return False


def is_due(step: int, every: int) -> bool:
    """Whether something is due that is done every so many steps; 0 for never."""
    return bool(every) and step % every == 0


def due_evaluators(
    config: ConfigDict, evaluators: Mapping[str, Evaluator], step: int
) -> dict[str, Evaluator]:
    """Returns the evaluators of a run that are due; all of them after the last step."""

    def due(entry: ConfigDict) -> bool:
        if step == 0:
            return entry.get("at_start", False)
        is_last = step == config.total_steps
        return is_last or is_due(step, entry.get("every_steps", 0))

    return {n: e for n, e in evaluators.items() if due(config.evals[n])}


def evaluate_state(
    evaluators: Mapping[str, Evaluator],
    state: ModelState,
    before_each: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Runs evaluators in their order; returns `EVALUATOR/METRIC` -> number.

    Args:
      evaluators: by name.
      state: of the model.
      before_each: is called before each evaluator.

    Raises:
      ClipinError: what an evaluator raises, or it yields no pairs of text and number.
    """
    scores = {}
    for name, evaluator in evaluators.items():
        before_each()
        try:
            with explained(type(evaluator).__name__):
                pairs = [_metric(pair) for pair in evaluator.run(state)]
        except ClipinError as error:
            raise ClipinError(f"evals.{name}: {error}") from error
        scores |= {f"{name}/{metric}": value for metric, value in pairs}
    return scores


def _metric(pair: Any) -> tuple[str, float]:
    try:
        metric, value = pair
        return metric, float(value)
    except (TypeError, ValueError):
        raise ClipinError(
            f"`run` must yield (metric, number), but yielded {pair!r}"
        ) from None


def evaluate(
    workdir: str | Path,
    step: int | None = None,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluates a checkpoint of a run, prints the scores and writes them as JSON.

    Args:
      workdir: the run's folder, by path or URL; the run may still be training. Or a
        model of another library, see `open_source`.
      step: the checkpoint's step; None for the newest undamaged one.
      output: the JSON file, by path or URL; `eval/<step>.json` in the run's folder if
        None. A model of another library needs one.
      overrides: "KEY=VALUE" of `evals`, or of `data.source`, whose folder evals may
        share: where data has moved to, or other evals.

    Returns:
      `EVALUATOR/METRIC` -> number.

    Raises:
      ClipinError: no run, no such checkpoint, no evaluators in its config, or another
        key.
    """
    check_output(workdir, output)
    run = open_source(workdir)
    config, evaluators = choose_evaluators(run, overrides)
    state, step = run.restore(step)
    with jax.set_mesh(run.encoder.mesh):
        scores = evaluate_state(evaluators, state)
    if jax.process_index() == 0:
        shown = console.scores(scores, shown_figures(evaluators, scores))
        print(f"clipin: evaluation at step {step}\n{shown}")
        path = write_results(
            run.name, step, config=config, evaluators=evaluators, scores=scores,
            output=output,
        )  # fmt: skip
        print(f"clipin: written to {storage.full_path(path)}")
    return scores


def choose_evaluators(
    run: Opened, overrides: Sequence[str]
) -> tuple[ConfigDict, dict[str, Evaluator]]:
    """Returns the config of a run with overrides, and its evaluators by name.

    Args:
      run: of which no weights are read.
      overrides: as for `evaluate`.

    Raises:
      ClipinError: no evaluators in the config, or another key.
    """
    config = _with_overrides(run.config, overrides)
    evaluators = make_evaluators(config.evals, run.encoder)
    if not evaluators:
        raise ClipinError(
            f"the config of {run.name} has no evals: evaluate by a suite, such as "
            "--suite core"
        )
    return config, evaluators


def _with_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    for key in map(override_key, overrides):
        if not f"{key}.".startswith(("evals.", "data.source.")):
            raise ClipinError(
                f"{key} belongs to training: an evaluation takes keys of evals, and of "
                "data.source where evals share its folder"
            )
    return apply_overrides(config, overrides)


def write_figures(workdir: Path, figures: Mapping[str, Figure]) -> None:
    """Adds formats of scores to the run's `figures.json`, for reports.

    Raises:
      ClipinError: the file cannot be written.
    """
    path = workdir / "figures.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known |= {key: dataclasses.asdict(figure) for key, figure in figures.items()}
    write_file(path, json.dumps(known, indent=2) + "\n")


def write_results(
    workdir: str | Path,
    step: int,
    *,
    config: ConfigDict,
    evaluators: Mapping[str, Evaluator],
    scores: Mapping[str, float],
    output: str | Path | None = None,
    **more: Any,
) -> Path:
    """Writes scores, their formats, and records with CLIP_benchmark's keys.

    Args:
      workdir: the run's folder, by path or URL.
      step: of the evaluated state.
      config: of the run; its `evals` name the evaluators.
      evaluators: name -> evaluator, of those that have run.
      scores: `EVALUATOR/METRIC` -> number.
      output: the JSON file, by path or URL; `eval/<step>.json` in the run's folder if
        None.
      more: further keys of the file.

    Returns:
      The path of the file.

    Raises:
      ClipinError: the file cannot be written.
    """
    records = {
        name: clip_benchmark_record(
            evaluator,
            _scores_of(name, scores),
            dataset=_dataset(name, config.evals[name]),
            model=config.name,
            pretrained=f"{Path(workdir).name}/{step}",
        )
        for name, evaluator in evaluators.items()
    }
    results = {
        "step": step,
        "scores": dict(scores),
        "figures": {
            key: dataclasses.asdict(figure)
            for key, figure in shown_figures(evaluators, scores).items()
        },
        "evals": records,
        **more,
        "environment": {"clipin_jax": __version__, **environment()},
    }
    path = output or storage.join(str(workdir), f"eval/{step}.json")
    return storage.write_output(path, json.dumps(results, indent=2) + "\n")


def _scores_of(name: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Returns the scores of one evaluator, by metric."""
    prefix = f"{name}/"
    return {
        k.removeprefix(prefix): v for k, v in scores.items() if k.startswith(prefix)
    }


def _dataset(name: str, entry: ConfigDict) -> str:
    """Returns the data set of an entry; a suite's entries are DATASET:PROTOCOL."""
    dataset, colon, _ = name.partition(":")
    if colon:
        return dataset
    return entry.source.name if "source" in entry else name
