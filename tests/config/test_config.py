import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from clipin_jax import config as configs
from clipin_jax.config import (
    CLIPIN,
    apply_changes,
    apply_overrides,
    load,
    load_config,
    parse_options,
    plug_clipin,
    to_json,
    with_defaults,
)
from clipin_jax.errors import ClipinError

CONFIG_FILE = '''"""A small config.

More words.
"""
import ml_collections

from clipin_jax.config import CLIPIN, parse_options, plug_clipin, warmup_cosine


def get_config(arg=None):
    arg = parse_options(arg, clipin=CLIPIN, variant="S/16", width=8, rate=0.5)
    config = ml_collections.ConfigDict()
    config.name = "small"
    config.total_steps = 100
    config.model = dict(
        pre_projector=0, image=dict(name="vit", image_size=(32, 32), depth=2)
    )
    config.model.width = arg.width
    config.objectives = dict(contrastive=dict(weight=1.0))
    config.target = dict(decay=0.0, symmetric=False)
    config.optim = dict(
        learning_rate=warmup_cosine(arg.rate, 10, config.get_ref("total_steps")),
        no_decay=("bias",),
        weight_decay=0.2,
    )
    config.data = dict(
        views=1,
        shuffle=True,
        threads=2,
        source=dict(name="scenes", length=10),
        image_size=config.model.image.get_ref("image_size"),
        cache=None,
    )
    if arg.clipin:
        plug_clipin(config, arg.clipin)
    return config
'''


@pytest.fixture
def small(tmp_path) -> str:
    path = tmp_path / "small.py"
    path.write_text(CONFIG_FILE)
    return str(path)


def test_options_take_the_type_of_their_default():
    arg = parse_options(
        "small,variant=B/16,steps=1e3,rate=1,runlocal=false",
        small=False,
        variant="S/16",
        steps=10,
        rate=0.5,
        runlocal=True,
        size=(2, 2),
    )
    assert arg.to_dict() == dict(
        small=True, variant="B/16", steps=1000, rate=1.0, runlocal=False, size=(2, 2)
    )
    assert parse_options(None, a=1).a == parse_options("", a=1).a == 1
    assert isinstance(arg.rate, float) and isinstance(arg.steps, int)


@pytest.mark.parametrize(
    "arg, expected",
    [("", ""), ("plug", "first"), ("plug=first", "first"), ("plug=other", "other")],
)
def test_an_option_that_is_one_of_several_names(arg, expected):
    assert parse_options(arg, plug={"first": {"a": 1}, "other": {}}).plug == expected


@pytest.mark.parametrize(
    "arg, words",
    [
        ("clippin", ["clippin", "did you mean 'clipin'", "variant"]),
        ("variant", ["variant", "needs a value", "variant=S/16"]),
        ("steps=many", ["steps", "many", "int"]),
        ("steps=1.5", ["steps", "1.5", "int"]),
        ("runlocal=3", ["runlocal", "3", "bool"]),
        ("clipin=", ["clipin", "''", "known: recommended, released"]),
        ("clipin=release", ["clipin", "'release'", "did you mean 'released'"]),
    ],
)
def test_wrong_options_are_named(arg, words):
    with pytest.raises(ClipinError) as error:
        parse_options(arg, clipin=CLIPIN, variant="S/16", steps=3, runlocal=False)
    assert all(word in str(error.value) for word in words)


def test_variants():
    assert configs.vit_sizes("B/16") == dict(
        patch_size=(16, 16), width=768, depth=12, num_heads=12
    )
    assert configs.vit_sizes("Ti/7")["patch_size"] == (7, 7)
    assert configs.text_sizes("B/16") == dict(width=512, depth=12, num_heads=8)
    for wrong in ("B", "B/", "B/x", "B/0", "Q/16"):
        with pytest.raises(ClipinError, match="Ti, S, B, L, H"):
            configs.vit_sizes(wrong)
    with pytest.raises(ClipinError, match="known: B, H, L, RN101, RN50, .* S, Ti"):
        configs.text_sizes("X")


def test_plugging_clipin_changes_its_slots_and_nothing_else(small):
    host, plugged = load_config(small), load_config(f"{small}:clipin=released")
    changed = configs.difference(host, plugged)
    slots = ("model.pre_projector", "objectives.clipin", "target.", "data.views")
    slots += ("init_keep", "model.projection_init")  # no host has weights for it
    assert changed.pop("name") == ("small", "small_clipin_released")
    assert changed and all(key.startswith(slots) for key in changed)
    assert changed["model.pre_projector"] == (0, 1024)
    assert with_defaults(plugged).objectives.clipin.to_dict() == dict(
        weight=1.0,
        inter_weight=1.0,
        intra_weight=1.0,
        projection_dim=8192,
        predictor="mlp",
        predictor_hidden_dim=2048,
        head_init="released",
        terms=("inter", "intra"),
        target_view="second",
    )
    assert plugged.target.to_dict() == dict(decay=0.95, symmetric=False)
    assert plugged.data.views == 2
    assert "contrastive" in plugged.objectives


def test_loaded_config_is_locked_and_follows_references(small):
    config = load_config(small, ["model.image.image_size=(64,48)", "total_steps=7"])
    assert config.data.image_size == (64, 48)
    assert config.optim.learning_rate.total_steps == 7
    with pytest.raises(AttributeError):
        config.modle = 3


def test_overrides_are_typed_and_leave_the_original_alone(small):
    config = load_config(small)
    changed = apply_overrides(
        config,
        [
            "--config.data.threads=4",
            "name=7",
            "data.shuffle=false",
            "optim.weight_decay=1",
            "optim.no_decay=('a','b')",
            "optim.learning_rate=1e-4",
            "data.cache=/tmp/a=b",
            'data.source={"name": "coco", "images": "there"}',
            "data.source.images=elsewhere",
        ],
    )
    assert changed.data.threads == 4
    assert changed.name == "7"
    assert changed.data.shuffle is False
    assert changed.optim.weight_decay == 1.0
    assert isinstance(changed.optim.weight_decay, float)
    assert changed.optim.no_decay == ("a", "b")
    assert changed.optim.learning_rate == 1e-4
    assert changed.data.cache == "/tmp/a=b"
    assert changed.data.source.to_dict() == dict(name="coco", images="elsewhere")
    assert config == load_config(small)


def test_changes_replace_whole_groups_and_leave_the_original_alone(small):
    config = load_config(small)
    groups = {"objectives": {"a": dict(weight=2.0)}, "model.width": 7}
    changed = apply_changes(config, groups)
    assert changed.objectives.to_dict() == {"a": {"weight": 2.0}}
    assert changed.model.width == 7 and config.model.width == 8
    assert to_json(load_config(small, changes=groups)) == to_json(changed)
    with pytest.raises(ClipinError, match="did you mean 'model.width'"):
        apply_changes(config, {"model.widht": 7})


def test_a_weight_may_be_learned_and_given_again(small):
    key = "objectives.contrastive.weight"
    config = load_config(small, [f"{key}=learned"])
    assert config.objectives.contrastive.weight == "learned"
    assert apply_overrides(config, [f"{key}=2"]).objectives.contrastive.weight == 2.0
    with pytest.raises(ClipinError, match="contrastive.weight cannot be 'much'"):
        apply_overrides(config, [f"{key}=much"])


def test_a_number_may_become_a_schedule(small):
    schedule = '{"schedule": "cosine", "start": 0.9, "end": 1.0, "total_steps": 5}'
    config = load_config(small, [f"target.decay={schedule}"])
    assert config.target.decay.end == 1.0
    assert configs.cosine(0.9, 1.0, 5) == config.target.decay.to_dict()


@pytest.mark.parametrize(
    "override, words",
    [
        ("optim.learnin_rate=1", ["'optim.learnin_rate'", "'optim.learning_rate'"]),
        ("thread=3", ["'thread'", "'data.threads'"]),
        ("data.zzz=3", ["'data.zzz'", "data has", "shuffle", "threads"]),
        ("zzz=3", ["'zzz'", "the config has", "model", "total_steps"]),
        ("total_steps", ["total_steps", "KEY=VALUE"]),
        ("total_steps=many", ["total_steps", "'many'", "int", "100"]),
        ("total_steps=None", ["total_steps", "None", "int"]),
        ("total_steps=1.5", ["total_steps", "1.5", "int"]),
        ("total_steps=True", ["total_steps", "True", "int"]),
        ("total_steps=1e999", ["total_steps", "inf", "int"]),
        ("data.shuffle=2", ["data.shuffle", "2", "bool"]),
        ("model.image.image_size=x", ["model.image.image_size", "'x'", "tuple"]),
        ("model.image.image_size=(64,)", ["model.image.image_size", "2 items"]),
        ("model.image.image_size=(64,1.5)", ["model.image.image_size", "1.5"]),
        ("model=3", ["model is a group", "pre_projector"]),
        ("model={}", ["model is a group"]),
        ("total_steps={'schedule': 'cosine'}", ["total_steps", "int"]),
    ],
)
def test_wrong_overrides_are_named_and_change_nothing(small, override, words):
    config = load_config(small)
    with pytest.raises(ClipinError) as error:
        apply_overrides(config, ["data.threads=9", override])
    assert all(word in str(error.value) for word in words), str(error.value)
    assert config == load_config(small)


def test_config_survives_json_and_a_run_folder(small, tmp_path):
    config = load_config(f"{small}:clipin,width=9", ["optim.weight_decay=0.1"])
    text = configs.to_json(config)
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    (tmp_path / "config.json").write_text(text)
    again = load_config(str(tmp_path))
    assert configs.resolve(again) == configs.resolve(config)
    assert again.data.cache is None and again.data.image_size == (32, 32)
    assert configs.config_hash(again) == configs.config_hash(config)
    assert configs.config_hash(load_config(small)) != configs.config_hash(config)
    assert load_config(str(tmp_path / "config.json")) == again
    with pytest.raises(ClipinError, match="takes no options"):
        load_config(f"{tmp_path}:clipin")


def test_difference_names_what_only_one_has(small):
    a = load_config(small)
    b = load_config(small, ['data.source={"name": "coco", "images": "x"}'])
    assert configs.difference(a, b) == {
        "data.source.name": ("scenes", "coco"),
        "data.source.length": (10, None),
        "data.source.images": (None, "x"),
    }
    assert configs.difference(a, a) == {}


def test_damaged_run_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"name": ')
    with pytest.raises(ClipinError, match="config.json cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(ClipinError, match="config.json cannot be read"):
        load_config(str(tmp_path))


def test_value_that_json_can_not_hold_is_named():
    with pytest.raises(ClipinError, match="Path.*cannot be saved"):
        configs.to_json(ConfigDict(dict(folder=Path("x"))))


@pytest.mark.parametrize(
    "source, words",
    [
        ("import math\n\ndef get_config(arg):\n    return math.x\n", ["line 4"]),
        ("x = (\n", ["line 1", "SyntaxError"]),
        ("import not_there\n", ["line 1", "not_there"]),
        ("y = 1\n", ["get_config"]),
        ("def get_config(arg):\n    return {}\n", ["must return a ConfigDict"]),
    ],
)
def test_config_file_that_fails_is_named_with_its_line(tmp_path, source, words):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ClipinError) as error:
        load_config(str(path))
    assert all(word in str(error.value) for word in [str(path), *words])


def test_a_file_without_the_function_is_named(tmp_path):
    (tmp_path / "page.py").write_text("x = 1\n")
    with pytest.raises(ClipinError, match="page.py has no function get_config"):
        load_config(str(tmp_path / "page.py"))


@pytest.mark.parametrize(
    "name", ["albef", "blip", "clip", "clip_zh", "clipin_coco", "coca"]
    + ["nclip", "siglip", "xclip"],
)  # fmt: skip
def test_runlocal_reads_the_folder_that_is_given(name):
    given = load_config(f"{name}:runlocal,data=/pairs")
    sources = given.data.source, given.evals.retrieval.source
    assert [s.name for s in sources] == ["coco", "coco"]
    assert [s.folder for s in sources] == ["/pairs", "/pairs"]
    assert load_config(f"{name}:runlocal").data.source.name == "scenes"


def test_required_placeholder_must_be_filled(tmp_path):
    path = tmp_path / "page.py"
    path.write_text(
        "from ml_collections import ConfigDict, config_dict\n\n"
        "def get_config(arg):\n"
        "    folder = config_dict.required_placeholder(str)\n"
        "    return ConfigDict(dict(data=dict(folder=folder, other=1)))\n"
    )
    with pytest.raises(ClipinError, match=r"data\.folder=\.\.\."):
        load_config(str(path))
    config = load_config(str(path), ["data.folder=there"])
    assert config.data.folder == "there"


def test_configs_are_found_by_name_and_listed(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "small.py").write_text(CONFIG_FILE)
    monkeypatch.setattr(load, "PACKAGE", tmp_path)
    (folder / "broken.py").write_text("def (")
    assert configs.list_configs() == {
        "broken": "(not valid Python)",
        "small": "A small config.",
    }
    assert configs.find_config("small") == folder / "small.py"
    assert load_config("small:width=3").model.width == 3
    with pytest.raises(ClipinError, match="did you mean 'small'"):
        load_config("smal")


def test_a_clone_is_preferred_to_what_is_installed(tmp_path, monkeypatch):
    clone, package = tmp_path / "configs", tmp_path / "clipin_jax"
    for folder in (clone, package / "configs"):
        folder.mkdir(parents=True)
        (folder / "small.py").write_text(CONFIG_FILE)
    monkeypatch.setattr(load, "PACKAGE", package)
    assert configs.find_config("small").parent == package / "configs"
    (tmp_path / "setup.py").touch()
    assert configs.find_config("small").parent == clone


def test_plugging_takes_schedules_and_widths(small):
    config = ConfigDict(load_config(small).to_dict())
    plug_clipin(config, projection_dim=16, decay=configs.cosine(0.9, 1.0, 10))
    assert config.objectives.clipin.projection_dim == 16
    assert config.target.decay.schedule == "cosine"


def test_the_recommended_setting_is_the_released_one_but_for_what_was_searched(small):
    released, recommended = (
        load_config(f"{small}:clipin=released"),
        load_config(f"{small}:clipin"),
    )
    assert configs.difference(released, recommended) == {
        "name": ("small_clipin_released", "small_clipin"),
        "model.projection_init": ("released", "orthogonal"),
        "objectives.clipin.head_init": ("released", "orthogonal"),
        "objectives.clipin.predictor": ("mlp", "residual"),
        "target.decay": (0.95, 0.99),
    }


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(setting="release"), ["'release'", "did you mean 'released'"]),
        (dict(pre_projecter=2), ["'pre_projecter'", "did you mean 'pre_projector'"]),
        (dict(view="first"), ["view is 'first'", "second-separate"]),
    ],
)
def test_what_can_not_be_plugged_is_named(small, arguments, words):
    config = ConfigDict(load_config(small).to_dict())
    with pytest.raises(ClipinError) as error:
        plug_clipin(config, **arguments)
    assert all(word in str(error.value) for word in words)
