"""Every row of `EVALUATORS`: scores a model that can do everything, and says how."""

import inspect
import json
import math
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import EVALUATORS, is_source, make_evaluators
from clipin_jax.evaluators.base import shown_figures
from clipin_jax.inference.build import make_encoder
from clipin_jax.runs.build import build_experiment

# Images with captions and labels. Those with labels have one object.
LABELLED = dict(name="scenes", size=16, labels="shape")
SOURCES = {"localization": dict(LABELLED, objects=(2, 2), labels=None)}
# Columns that evaluators of texts read by default.
COLUMNS = dict(
    text=("a red circle", "a blue square"),
    label=("round", "cornered"),
    sentence1=("a red circle", "a green circle"),
    sentence2=("a circle", "a blue square"),
    score=("1.0", "0.0"),
)
# In place of defaults that would take longer.
FEW = dict(
    epochs=1, train_batch_size=8, k=3, shots=(1, 5), seeds=(0,), batch_size=8,
    max_captions=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    """The encoder and a state of a model that compares, writes and explains."""
    small = ["model.image.depth=1", "model.image.width=16", "model.text.width=16"]
    config = load_config("coca:runlocal", small)
    experiment = build_experiment(config, jax.devices()[:1])
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), leaf.dtype),
        experiment.abstract_state.params,
    )
    state = SimpleNamespace(variables={"params": params}, target_variables={})
    return make_encoder(config, experiment.learner, experiment.mesh), state


def write_table(path: Path) -> str:
    """Writes two rows of all columns."""
    lines = ["\t".join(COLUMNS), *map("\t".join, zip(*COLUMNS.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_winoground(folder: Path) -> str:
    """Writes the one pair of images and captions of a test of compositionality."""
    (folder / "images").mkdir()
    for name, gray in (("a", 50), ("b", 200)):
        Image.new("RGB", (8, 8), (gray,) * 3).save(folder / "images" / f"{name}.png")
    names = dict(image_0="a", image_1="b", caption_0="dark", caption_1="bright")
    (folder / "examples.jsonl").write_text(json.dumps(names) + "\n")
    return str(folder)


def arguments_of(name: str, folder: Path) -> dict[str, Any]:
    """Returns an entry of `config.evals` that an evaluator can be built from."""
    required = inspect.Parameter.empty
    parameters = inspect.signature(EVALUATORS[name]).parameters
    arguments = {key: value for key, value in FEW.items() if key in parameters}
    for key, parameter in list(parameters.items())[1:]:
        if parameter.default is not required:
            continue
        if is_source(key):
            split = "train" if key.startswith("train") else "val"
            source = SOURCES.get(name, LABELLED)
            arguments[key] = source | dict(split=split, length=24)
        elif key.endswith("file"):
            arguments[key] = write_table(folder / f"{key}.tsv")
        elif key == "folder":
            arguments |= dict(format="winoground", folder=write_winoground(folder))
        elif key not in arguments and key != "format":
            raise AssertionError(
                f"{name!r} requires {key!r}: add a value for it to `arguments_of` in "
                f"{__file__}"
            )
    return arguments


@pytest.fixture(scope="module", params=sorted(EVALUATORS))
def evaluation(request, model, tmp_path_factory) -> SimpleNamespace:
    """An evaluator, and what it yields in two runs."""
    encoder, state = model
    entry = arguments_of(request.param, tmp_path_factory.mktemp("files"))
    evals = ConfigDict({"mine": dict(entry, type=request.param)})
    [evaluator] = make_evaluators(evals, encoder).values()
    runs = [list(evaluator.run(state)) for _ in range(2)]
    return SimpleNamespace(
        evaluator=evaluator, entry=entry, name=request.param, runs=runs
    )


def test_scores_are_finite_and_the_same_again(evaluation):
    first, second = evaluation.runs
    assert first == second
    values = dict(first)
    assert len(values) == len(first) > 0
    for metric, value in values.items():
        assert isinstance(value, float) and math.isfinite(value), metric
        beside, _, of = metric.partition("/")
        assert beside not in ("chance", "ceiling") or of in values


def test_figures_are_of_metrics(evaluation):
    evaluator, metrics = evaluation.evaluator, dict(evaluation.runs[0])
    assert evaluator.task and isinstance(evaluator.task, str)
    shown = [
        (figure, metric)
        for pattern, figure in evaluator.figures.items()
        for metric in metrics
        if fnmatchcase(metric, pattern)
    ]
    assert any(figure.headline for figure, _ in shown)
    for figure, metric in shown:
        assert figure.better in ("higher", "lower")
        assert figure.format.format(metrics[metric])


def test_trials_are_the_outcomes_that_a_score_counts(evaluation):
    values = {f"mine/{metric}": value for metric, value in evaluation.runs[0]}
    figures = shown_figures({"mine": evaluation.evaluator}, values)
    for key, trials in ((k, figure.trials) for k, figure in figures.items()):
        hits = values[key] * trials
        assert hits == pytest.approx(round(hits)) and 0 <= hits <= trials <= 24, key


def test_a_wrong_argument_names_the_nearest(evaluation, model):
    key = next(iter(evaluation.entry))
    entry = dict(evaluation.entry, type=evaluation.name, **{f"{key}s": 1})
    with pytest.raises(ClipinError, match=rf"evals.mine.{key}s does.*'{key}'"):
        make_evaluators(ConfigDict({"mine": entry}), model[0])
