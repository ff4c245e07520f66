"""`clipin config`: each value with its origin, the difference of two configs, JSON."""

import json

import pytest

from clipin_jax.commands import main as cli
from clipin_jax.config import (
    explain_config,
    load_config,
    resolve,
    to_json,
    with_defaults,
)

PAGE = '''"""A page."""
from clipin_jax.config import (
    adamw, joint_space, pair_data, pair_evals, pair_source, plug_clipin, run_settings,
    vit_sizes, warmup_cosine,
)


def get_config(arg):
    config = run_settings("page", batch_size=64, total_steps=9)
    config.log_every_steps = 7
    config.model = dict(
        **joint_space(embed_dim=64),
        image=dict(name="vit", **vit_sizes("S/16"), image_size=(32, 32)),
        text=dict(
            name="text_transformer", width=384, depth=12, num_heads=6,
            context_length=16, vocab_size=49408,
        ),
    )
    config.objectives = dict(contrastive=dict(init_temperature=0.1))
    schedule = warmup_cosine(1e-3, 2, config.get_ref("total_steps"))
    config.optim = adamw(schedule, weight_decay=0.2)
    source = pair_source("", arg == "scenes")
    config.data = pair_data(config, source, dict(name="bpe"), flip=0.0)
    config.evals = pair_evals(source, "")
    plug_clipin(config, decay=0.9)
    return config
'''


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("pages") / "page.py"
    path.write_text(PAGE)
    return str(path)


@pytest.mark.parametrize(
    "key, origin, owner",
    [
        ("batch_size", "page", ""),
        ("log_every_steps", "page", ""),
        ("health_every_steps", "recipe", "run_settings"),
        ("name", "recipe", "plug_clipin"),
        ("model.embed_dim", "page", ""),
        ("model.dtype", "recipe", "joint_space"),
        ("model.pre_projector", "recipe", "plug_clipin"),
        ("model.image.width", "recipe", "vit_sizes"),
        ("model.image.pre_norm", "default", "ViT"),
        ("model.text.width", "page", ""),  # the number that `vit` gives the images
        ("objectives.contrastive.init_temperature", "page", ""),
        ("objectives.contrastive.duplicates", "default", "Contrastive"),
        ("objectives.contrastive.weight", "default", "Contrastive"),
        ("objectives.clipin.projection_dim", "recipe", "plug_clipin"),
        ("target.decay", "page", ""),
        ("optim.weight_decay", "override", ""),
        ("optim.learning_rate.peak", "page", ""),
        ("optim.learning_rate.end", "recipe", "warmup_cosine"),
        ("data.tokenizer.name", "page", ""),
        ("data.augment.flip", "page", ""),
        ("data.augment.hue", "recipe", "pair_data"),
        ("data.source.split", "recipe", "pair_source"),
        ("data.source.shift", "override", ""),
        ("evals.retrieval.source.split", "recipe", "pair_source"),
        ("evals.retrieval.similarity", "default", "Retrieval"),
        ("evals.second.source.name", "override", ""),
        ("evals.second.every_steps", "default", ""),
    ],
)
def test_each_value_has_its_origin(page, key, origin, owner):
    overrides = [
        "optim.weight_decay=0.2", "data.source.shift=0.5",
        "evals.second={'type': 'retrieval', 'source': {'name': 'scenes'}}",
    ]  # fmt: skip
    entry = explain_config(f"{page}:scenes", overrides)[key]
    assert (entry.origin, entry.owner) == (origin, owner)


def test_a_shrunk_config_is_the_recipe_that_shrinks():
    entries = explain_config("clip:runlocal")
    assert entries["model.image.width"] == (64, "recipe", "shrink_runlocal")
    assert entries["data.image_size"] == ((32, 32), "recipe", "shrink_runlocal")
    assert entries["data.augment.hue"].owner == "pair_data"


def test_the_values_are_those_of_the_loaded_config():
    spec = "clip:clipin,runlocal"
    values = {key: entry.value for key, entry in explain_config(spec).items()}
    for key, value in flat(resolve(with_defaults(load_config(spec)))).items():
        assert values.pop(key) == value, key
    assert not any(value is not None for value in values.values())


def flat(group: dict, prefix: str = "") -> dict:
    values = {}
    for key, value in group.items():
        inner = isinstance(value, dict) and value
        values |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return values


def test_the_table(page, capsys):
    assert cli.main(["config", page, "seed=3"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert page in first and all(len(line) <= 100 for line in lines)
    rows = [line.split() for line in lines]
    assert ["seed", "3", "override"] in rows and ["model"] in rows
    assert ["image.width", "384", "recipe", "vit_sizes"] in rows
    assert ["source.folder", "(required)", "recipe", "pair_source"] in rows
    assert len({line.index("recipe") for line in lines if " recipe " in line}) == 1


def test_the_difference(capsys):
    assert cli.main(["config", "clip:clipin", "--diff", "clip", "seed=3"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["clip", "clip:clipin"]
    assert ["seed", "0", "3"] in rows and ["pre_projector", "0", "1024"] in rows
    assert ["clipin.projection_dim", "-", "8192"] in rows
    assert not any("patch_size" in row[0] for row in rows)


def test_no_difference(tmp_path, capsys):
    complete = with_defaults(load_config("clip:runlocal", ["seed=3"]))
    (tmp_path / "config.json").write_text(to_json(complete))
    argv = ["config", "clip:runlocal", "seed=3", "--diff", str(tmp_path)]
    assert cli.main(argv) == 0
    expected = f"clip:runlocal and {tmp_path} have the same values\n"
    assert capsys.readouterr().out == expected


def test_json_of_a_config_and_of_a_difference(page, tmp_path, capsys):
    assert cli.main(["config", page, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries["model.image.width"] == {
        "value": 384,
        "from": "recipe",
        "of": "vit_sizes",
    }
    assert entries["data.source.folder"]["value"] is None
    (tmp_path / "config.json").write_text('{"name": "run", "seed": 1}')
    run = str(tmp_path)
    assert cli.main(["config", run, "--json", "seed=2"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": {"value": "run", "from": "run"},
        "seed": {"value": 2, "from": "override"},
    }
    assert cli.main(["config", run, "--diff", run, "--json", "seed=2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seed": [1, 2]}
