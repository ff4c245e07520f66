"""Every key that a config may have is described."""

import importlib

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import explain_config, list_configs
from clipin_jax.config.class_arguments import PARTS, arguments, target_of
from clipin_jax.config.descriptions import (
    RECIPE_KEYS,
    describe_arguments,
    describe_key,
    describe_recipe_key,
    summary,
)
from clipin_jax.config.load import read_config
from clipin_jax.errors import DONE

SPECS = (
    *list_configs(), "clip:clipin", "clip:clipin=released", "clip:tower=RN50",
    "clip:finetune", "clip:lit", "quickstart:clipin", "albef:clipin", "coca:clipin",
)  # fmt: skip
# A dotted key at which a part of each kind may stand.
PLACES = {
    "clipin_jax.core.schedules:SCHEDULES": "optim.learning_rate",
    "clipin_jax.models:IMAGE_TOWERS": "model.image",
    "clipin_jax.models:TEXT_TOWERS": "model.text",
    "clipin_jax.core.lora:Lora": "model.lora.image",
    "clipin_jax.objectives:OBJECTIVES": "objectives.mine",
    "clipin_jax.core.optimizers:OPTIMIZERS": "optim",
    "clipin_jax.data.sources:SOURCES": "data.source",
    "clipin_jax.data.text:TOKENIZERS": "data.tokenizer",
    "clipin_jax.data.image:TRANSFORMS": "data.augment.transforms.mine",
    "clipin_jax.evaluators:EVALUATORS": "evals.mine",
    "clipin_jax.inference.generation:Decoding": "evals.mine.decoding",
    "clipin_jax.runs.loggers.table:LOGGERS": "log.mine",
    "clipin_jax.runs.checkpoint:Checkpoints": "checkpoint",
}


@pytest.mark.parametrize("spec", SPECS)
def test_every_key_of_a_config_is_described(spec):
    config = read_config(spec)
    missing = [key for key in explain_config(spec) if not describe_key(config, key)]
    assert not missing


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.table)
def test_every_argument_of_every_class_is_described(part):
    module, _, name = part.table.partition(":")
    table = getattr(importlib.import_module(module), name)
    place = PLACES[part.table]
    for entry in table if part.key else [None]:
        group = {part.key: entry} if entry else {}
        target = target_of(place, group)
        assert summary(target), entry
        texts = describe_arguments(target)
        known = [describe_recipe_key(f"{place}.{k}") for k in arguments(place, group)]
        found = [texts.get(k) for k in arguments(place, group)]
        assert all(a or b for a, b in zip(known, found, strict=True)), (entry, texts)


def test_described_keys_exist():
    """A key that no config has any more leaves the table."""
    keys = {key for spec in SPECS for key in explain_config(spec)}
    for name in RECIPE_KEYS:
        if not any(word in name for word in ("NAME", "KEY", "optim.learning_rate")):
            assert name in keys, name


def test_base_classes_and_several_names_in_a_line():
    class Base:
        """Sums.

        Attributes:
          a, b: what is added, over
            two lines.
          c: of the base.

        Two more words.
        """

    class Derived(Base):
        """Sums again,
        in two lines.

        Args:
          c: of the class itself.

        Raises:
          d: is no argument.
        """

    added = "what is added, over two lines."
    expected = {"a": added, "b": added, "c": "of the class itself."}
    assert describe_arguments(Derived) == expected
    assert summary(Derived) == "Sums again, in two lines."


def test_the_command_prints_meanings(capsys):
    assert main(["config", "clip:runlocal", "--describe", "seed=3"]) == DONE
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("  seed")]
    assert line.split()[:3] == ["seed", "3", "Seed"]
