"""Overrides of arguments that no page lists, and of whole entries."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from clipin_jax.config import (
    apply_changes,
    difference,
    from_json,
    load_config,
    resolve,
    to_json,
    with_defaults,
)
from clipin_jax.config.class_arguments import PARTS
from clipin_jax.errors import ClipinError

ROOT = Path(__file__).parents[2]
SCENES = "{'name': 'scenes', 'split': 'val', 'length': 8}"


def value(config, key):
    for word in key.split("."):
        config = config[word]
    return config


@pytest.fixture(scope="module")
def clip():
    return load_config("clip:clipin,runlocal")


@pytest.mark.parametrize(
    "override, expected",
    [
        ("evals.retrieval.similarity=prediction", "prediction"),
        ("evals.retrieval.max_captions=2", 2),
        ("evals.retrieval.source.shift=1", 1.0),
        ("model.image.pre_norm=False", False),
        ("model.text.pool=last", "last"),
        ("data.source.shift=0.5", 0.5),
        ("data.source.objects=[1, 2]", (1, 2)),
        ("data.tokenizer.pad_with_end=true", True),
        ("objectives.contrastive.label_smoothing=0.1", 0.1),
        ("objectives.clipin.weight=learned", "learned"),
        ("objectives.contrastive.weight=2", 2.0),
        ("evals.retrieval.every_steps=7", 7),
    ],
)
def test_an_argument_of_a_named_class_can_be_set(override, expected):
    config = load_config("clip:clipin,runlocal", [override])
    actual = value(config, override.partition("=")[0])
    assert actual == expected and type(actual) is type(expected)
    assert config.is_locked


def test_an_argument_that_is_a_dict_of_its_own_can_be_set():
    config = load_config("clip:runlocal", [
        f"evals.captions={{'type': 'captioning', 'source': {SCENES}}}",
        "evals.captions.decoding.strategy=beam",
        "evals.captions.decoding.beams=2",
    ])  # fmt: skip
    assert config.evals.captions.decoding.to_dict() == dict(strategy="beam", beams=2)


def test_an_entry_that_is_true_takes_arguments():
    config = load_config("clip:runlocal", ["log.tensorboard.flush_secs=3"])
    assert config.log.to_dict() == {"tensorboard": {"flush_secs": 3.0}}
    config = load_config("clip:runlocal", ["log.curves={'type': 'tensorboard'}"])
    assert set(config.log) == {"tensorboard", "curves"}
    assert not load_config("clip:runlocal", ["log.tensorboard=None"]).log


def test_arguments_of_each_source_of_a_mixture():
    part = "'name': 'scenes', 'split': 'train', 'length': 64, 'weight': 1"
    mixture = f"{{'name': 'mixture', 'sources': {{'a': {{{part}}}, 'b': {{{part}}}}}}}"
    config = load_config("clip:runlocal", [
        f"data.source={mixture}", "data.source.sources.a.shift=0.5",
        f"data.source.sources.c={{{part}}}", "data.source.sources.b=None",
    ])  # fmt: skip
    assert config.data.source.sources.a.shift == 0.5
    assert set(config.data.source.sources) == {"a", "c"}


def test_entries_are_added_and_removed():
    second = f"evals.second={{'type': 'retrieval', 'source': {SCENES}}}"
    config = load_config(
        "clip:clipin,runlocal",
        [second, "evals.second.batch_size=8", "evals.retrieval=None"]
        + ["objectives.clipin=None", "objectives.simclr={'temperature': 0.2}"],
    )
    assert set(config.evals) == {"second"} and config.evals.second.batch_size == 8
    assert set(config.objectives) == {"contrastive", "simclr"}
    assert config.evals.second.source.name == "scenes"


def test_all_entries_are_replaced():
    config = load_config("clip:clipin,runlocal", ["evals={}", "log={}"])
    assert not config.evals and not config.log
    config = load_config(
        "clip:clipin,runlocal",
        ["objectives={'sigmoid': {}, 'clipin': None}", "objectives.sigmoid.weight=2"]
        + ["objectives.sigmoid.weight=learned"],  # another type
    )
    assert config.objectives.to_dict() == {"sigmoid": {"weight": "learned"}}


def test_transforms_are_entries():
    key = "data.augment.transforms"
    added = load_config("clip:runlocal", [f"{key}.mine={{'type': 'rand_augment'}}"])
    assert added.data.augment.transforms.to_dict() == {"mine": {"type": "rand_augment"}}
    weaker = load_config("albef:runlocal", [f"{key}.rand_augment.magnitude=3"])
    assert weaker.data.augment.transforms.rand_augment.magnitude == 3
    removed = load_config("albef:runlocal", [f"{key}.rand_augment=None"])
    assert not removed.data.augment.transforms


def test_a_page_removes_entries_with_none(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "from ml_collections import ConfigDict\n\n"
        "def get_config(arg):\n"
        "    return ConfigDict(dict(evals=dict(a=None, b=dict(c=None))))\n"
    )
    assert load_config(str(page)).to_dict() == dict(evals=dict(b=dict(c=None)))


@pytest.mark.parametrize(
    "override, words",
    [
        ("evals.retrieval.similarty=x", ["did you mean 'evals.retrieval.similarity'"]),
        ("model.image.pre_nrom=True", ["did you mean 'model.image.pre_norm'"]),
        ("model.image.dtype=float16", ["no config key 'model.image.dtype'"]),
        ("model.image.pre_norm=3", ["model.image.pre_norm", "3", "bool", "now True"]),
        ("evals.retrieval.max_captions=few", ["max_captions", "'few'", "int"]),
        ("data.source.objects=3", ["data.source.objects", "tuple"]),
        ("objectives.contrastive.weight=big", ["'big'", "float"]),
        ("evals.second=3", ["evals.second", "3", "'type'"]),
        ("evals={'second': 3}", ["evals cannot have 'second': 3", "'type'"]),
        ("evals=3", ["evals is a group"]),
        ("evals.second={'type': zero_shot}", ["no Python literal", "in quotes"]),
        ("data.source={'name': 'coco'", ["no Python literal", "close its brackets"]),
        ("model.image.patch_size=(8, 8", ["patch_size", "no Python literal"]),
        ("data.source=scenes", ["data.source is a group", "a dict with 'name'"]),
        ("optim.learning_rate=high", ["give a number, or a dict with 'schedule'"]),
        ("evals.second.batch_size=3", ["no config key 'evals.second.batch_size'"]),
        ("evals.retrievl=None", ["removed", "did you mean 'retrieval'"]),
        ("model.text=None", ["model.text is a group"]),
        ("checkpoint.read_only=True", ["no config key 'checkpoint.read_only'"]),
    ],
)
def test_a_wrong_key_or_value_is_named(override, words):
    with pytest.raises(ClipinError) as error:
        load_config("clip:clipin,runlocal", [override])
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_class_of_another_package_stays_as_it_is_given(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text(
        "class TheirEvaluator:\n    def __init__(self, encode, *, size: int = 3): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "their_package:TheirEvaluator"
    config = load_config(
        "clip:runlocal", [f"evals.second={{'type': {name!r}}}", "evals.second.size=4"]
    )
    again = from_json(to_json(config))
    assert again.evals.second.to_dict() == {"type": name, "size": 4}
    with pytest.raises(ClipinError, match="did you mean 'evals.second.size'"):
        load_config(
            "clip:runlocal",
            [f"evals.second={{'type': {name!r}}}", "evals.second.sise=4"],
        )


def test_a_default_that_is_left_out_equals_one_that_is_listed(clip):
    listed = apply_changes(clip, {"model.image.pre_norm": True})
    assert difference(clip, listed) == {"model.image.pre_norm": (None, True)}
    assert difference(with_defaults(clip), with_defaults(listed)) == {}
    assert resolve(with_defaults(listed)) == resolve(with_defaults(with_defaults(clip)))


def test_what_is_listed_is_changed_without_jax():
    code = (
        "import sys; from clipin_jax.config import load_config\n"
        "load_config('clip:clipin,runlocal', ['optim.weight_decay=1', 'seed=3'])\n"
        "print('jax' in sys.modules)\n"
        "load_config('clip:clipin,runlocal', ['data.source.shift=0.5'])\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.table)
def test_every_table_of_parts_is_there(part):
    module, _, name = part.table.partition(":")
    table = getattr(importlib.import_module(module), name)
    for target in table.values() if part.key else [table]:
        known = list(inspect.signature(target).parameters)
        assert not set(known[: part.given]) & set(part.filled)


def test_another_class_drops_the_arguments_that_it_lacks():
    listed = load_config("siglip:runlocal").optim
    switched = load_config("siglip:runlocal", ["optim.name=sgd"]).optim
    assert {"b1", "b2", "eps"} & set(listed)
    assert not {"b1", "b2", "eps"} & set(switched)
    assert switched.clip_norm == listed.clip_norm
    with pytest.raises(ClipinError, match="adamw"):
        load_config("siglip:runlocal", ["optim.name=adamv"])
