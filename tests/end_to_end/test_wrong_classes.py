"""Mistakes in classes of other packages: one line says what, where and what to do."""

import re
from typing import Any

import pytest

from clipin_jax.commands import main as cli
from clipin_jax.config import load_config
from clipin_jax.core.schedules import make_schedule
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import ClipinError
from clipin_jax.training.evaluate import evaluate_state
from clipin_jax.training.loop import train
from tests.conftest import REPOSITORY
from tests.support import tiny_runs as runs

FILE = r"\(.*/tests/outside/wrong_classes.py, line \d+\)"


def named(key: str, name: str, **arguments: Any) -> str:
    """An override that sets a part, or adds an entry, of the package of mistakes."""
    part = {key.rpartition(".")[2]: f"wrong_classes:{name}", **arguments}
    return f"{key.rpartition('.')[0]}={part}"


def objective(name: str, **arguments: Any) -> str:
    return named("objectives.mine.type", name, **arguments)


def source(name: str, **arguments: Any) -> str:
    return named("data.source.name", name, **arguments)


def tokenizer(name: str, **arguments: Any) -> str:
    return named("data.tokenizer.name", name, **arguments)


def evaluator(name: str, **arguments: Any) -> str:
    return named("evals.mine.type", name, **arguments)


@pytest.fixture
def refused(monkeypatch, tmp_path) -> Any:
    """A function that returns the message of a run that does not start."""
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "outside")

    def refused(override: str) -> str:
        replaced = override.partition("=")[0]
        tiny = [x for x in runs.TINY if not x.startswith(f"{replaced}.")]
        with pytest.raises(ClipinError) as error, runs.on_one_device():
            config = load_config("clip:runlocal", [*tiny, override])
            train(config, tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    "override, message",
    [
        (objective("NoModule"), r"objectives.mine.type: NoModule is no flax module"),
        (objective("Evaluator"), r"mine.type: Evaluator has no scalars, .* see .*base"),
        (objective("NoWeight"), r"NoWeight.scalars has no 'weight'"),
        (objective("NoPair"), r"objectives.mine must return \(loss, metrics\)"),
        (objective("NoScalarLoss"), r"mine: its loss must be a scalar, .* \(16, 32\)"),
        (objective("NoScalarMetric"), r"histogram must be a scalar, .* \(3,\)"),
        (objective("NoSuchFeature"), rf"objectives.mine: KeyError: 'sound' {FILE}"),
        (objective("NoPair", wieght=1), "wieght.*did you mean 'weight'.*: weight$"),
        ("objectives={}", "objectives is empty"),
        ("objectives.contrastive=None", "objectives is empty"),
    ],
)
def test_objectives(refused, override, message):
    assert_matches(message, refused(override))


@pytest.mark.parametrize(
    "name, message",
    [
        ("NoFields", "NoFields does not take dtype, param_dtype, scan_layers, remat"),
        ("NoPooled", r"'pooled' of shape \[B, D\], but it returned \{'tokens': \("),
        ("WrongReshape", rf"model.image: TypeError: cannot reshape .* {FILE}"),
        ("Grey", "model.image.name: Grey is no flax module"),
        ("Fields", "wrong_classes has no 'Fields': did you mean 'NoFields'"),
    ],
)
def test_image_towers(refused, name, message):
    assert_matches(message, refused(named("model.image.name", name)))


def test_a_text_tower_with_too_few_ids_by_default(refused):
    message = refused(named("model.text.name", "FewWords"))
    assert_matches("vocab_size is 300, but the tokenizer has 49408", message)


@pytest.mark.parametrize(
    "override, message",
    [
        (source("NoConnection"), rf"source '.*': RuntimeError: no connection {FILE}"),
        (source("NoColumn"), rf"^record \d+ of NoColumn: KeyError: 'caption' {FILE}"),
        (source("OneText"), r"^record \d+ of OneText: .*captions are not a tuple"),
        (source("NoDescription"), "NoDescription has no annotations, describe: see"),
        (source("Grey", count="x"), "source '.*': TypeError: 'str' object"),
        (source("Grey", cuont=3), "source.cuont .* did you mean 'count'"),
    ],
)
def test_sources(refused, override, message):
    assert_matches(message, refused(override))


@pytest.mark.parametrize(
    "override, message",
    [
        (tokenizer("NoArguments"), "NoArguments does not take context_length, .*: see"),
        (tokenizer("NoVocabulary"), "NoVocabulary has no vocab_size, start, end"),
        (tokenizer("Bytes"), "Bytes made the id 300, but its vocab_size is 259"),
        (tokenizer("Bytes", offset="x"), f"data.tokenizer: TypeError: .* {FILE}"),
        (tokenizer("Bytes", ofset=4), "tokenizer.ofset .* did you mean 'offset'"),
        (tokenizer("Bytes", max_word=4), "max_word .* did you mean 'max_words'"),
    ],
)
def test_tokenizers(refused, override, message):
    assert_matches(message, refused(override))


@pytest.mark.parametrize(
    "override, message",
    [
        (evaluator("NoData"), rf"evals.mine: NoData: ValueError: no data {FILE}"),
        (evaluator("NoEncoder"), "evals.mine: NoEncoder: TypeError: .*positional"),
        (evaluator("WrongFormat"), "figures of WrongFormat: ValueError: .*'q'"),
        (evaluator("NoFigures"), "figures of NoFigures: AttributeError"),
        (evaluator("Evaluator", batch_size="x"), "batch_size is 'x'; .* at least 1"),
        (evaluator("Evaluator", every_steps=-1), "every_steps is -1; .* at least 0"),
        (evaluator("Grey"), "Grey is no evaluator, it has no task, figures, run"),
        (named("log.mine.type", "NoFinish"), "log.mine: NoFinish has no finish: see"),
        ("optim.name=wrong_classes:no_optimizer", "must return an optax.*of type int"),
        ("optim.bounds=(('scale', 'a', 1),)", r"\('scale', 'a', 1\): give numbers"),
        (
            "optim.learning_rate={'schedule': 'wrong_classes:no_number'}",
            "learning_rate: schedule 'wrong_classes:no_number' has no value at step 0",
        ),
    ],
)
def test_evaluators_writers_and_optimizers(refused, override, message):
    assert_matches(message, refused(override))


@pytest.mark.parametrize("verb", [["data", "bench"], ["data", "check"]])
def test_a_record_that_fails_later(monkeypatch, capsys, verb):
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "outside")
    argv = [*verb, "clip:runlocal", source("NoColumnLater")]
    assert cli.main(argv) == 78
    captured = capsys.readouterr()
    assert "KeyError: " in captured.out + captured.err
    assert "Traceback" not in captured.err


def test_a_caption_that_the_tokenizer_refuses(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "outside")
    overrides = source("Grey"), tokenizer("NoGrey")
    config = load_config("clip:runlocal", overrides)
    batches = TrainBatches(config.data, seed=0, batch_size=4)
    with pytest.raises(ClipinError) as error:
        next(batches)
    assert_matches(f"data.tokenizer: 'grey': ValueError: grey {FILE}", str(error.value))


def test_a_schedule_that_ends_too_early(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "outside")
    schedule = make_schedule("rate", {"schedule": "wrong_classes:end_of_data"})
    assert schedule(0) == 0.1
    with pytest.raises(ClipinError) as error:
        schedule(1)
    assert_matches(f"rate: .* at step 1: ValueError: .* {FILE}", str(error.value))


@pytest.mark.parametrize(
    "scores, message",
    [
        ([("norm", "high")], r"`run` must yield .*, but yielded \('norm', 'high'\)"),
        ({"norm": 1.0}, r"`run` must yield \(metric, number\), but yielded 'norm'"),
        (None, "Mine: TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_scores_that_are_no_pairs(scores, message):
    class Mine:
        task, figures = "none", {}

        def run(self, state: Any) -> Any:
            return scores

    with pytest.raises(ClipinError) as error:
        evaluate_state({"mine": Mine()}, None)  # type: ignore[arg-type]
    assert_matches(rf"evals\.mine: .*{message}", str(error.value))


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text
