"""Text of a command line becomes values; paths and options in quotes and brackets."""

import unicodedata

import pytest

from clipin_jax.config import (
    apply_overrides,
    load_config,
    parse_options,
    split_spec,
)
from clipin_jax.config.values import find_path, read_literal
from clipin_jax.errors import ClipinError

PAGE = """from clipin_jax.config import load_config


def get_config(arg):
    config = load_config("quickstart:" + (arg or "")).unlock()
    return config
"""


@pytest.mark.parametrize(
    "text, value",
    [
        ("true", True),
        ("null", None),
        ("{'type': 'a', 'on': true, 'of': [false, null]}",)
        + ({"type": "a", "on": True, "of": [False, None]},),
        ('{"a": {"b": None}}', {"a": {"b": None}}),
        ("(1, true)", (1, True)),
        ("truth", "truth"),
        ("{'a': b}", "{'a': b}"),
        ("a\0b", "a\0b"),
    ],
)
def test_literals_are_those_of_python_and_of_json(text, value):
    assert read_literal(text) == value


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("model.image.image_size=48", "model.image.image_size", (48, 48)),
        ("model.image.patch_size=4", "model.image.patch_size", (4, 4)),
        ("model.image.image_size=[48, 64]", "model.image.image_size", (48, 64)),
        ("log.tensorboard=0", "log.tensorboard", False),
        ("data.shuffle=1", "data.shuffle", True),
        ("total_steps=1e3", "total_steps", 1000),
        ("data.source.length=2e1", "data.source.length", 20),
        ("data.source.split='a,b'", "data.source.split", "a,b"),
    ],
)
def test_plain_meanings_are_understood(override, key, value):
    result = load_config("quickstart", [override])[key]
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    "override", ["data.augment.crop_scale=1", "log.tensorboard=2", "data.shuffle=0.5"]
    + ["data.source.objects=2.5", "total_steps=1.5e0"],
)  # fmt: skip
def test_other_meanings_are_not_guessed(override):
    with pytest.raises(ClipinError, match=override.partition("=")[0]):
        load_config("quickstart", [override])


@pytest.mark.parametrize(
    "arg, data",
    [
        ("data='/a,b',small", "/a,b"),
        ('data="/a,b", small', "/a,b"),
        ("small,data='a=b,c'", "a=b,c"),
        ("data='it is','x'", None),
        ("data=/a[1],small", "/a[1]"),
        ("data=[/a],small", "[/a]"),
        ("data=/a b/{c},small", "/a b/{c}"),
    ],
)
def test_options_may_be_in_quotes(arg, data):
    if data is None:
        with pytest.raises(ClipinError, match="unknown config option.*in quotes"):
            parse_options(arg, data="", small=False)
    else:
        options = parse_options(arg, data="", small=False)
        assert (options.data, options.small) == (data, True)


def test_an_existing_path_needs_no_quotes(tmp_path):
    folder = tmp_path / "a,small [1] 'x'"
    folder.mkdir()
    options = parse_options(f"small,data={folder},size=(1,2)", data="", small=False,
                            size=(3, 4))  # fmt: skip
    assert options.data == str(folder) and options.small
    assert options.size == (1, 2)


@pytest.mark.parametrize("name", ["a:b", "run [1]", "x,y", "it's", 'q"q'])
def test_a_file_or_run_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    page = folder / "page.py"
    page.write_text(PAGE)
    assert split_spec(f"{page}:runlocal") == (str(page), "runlocal")
    assert load_config(f"{page}:runlocal").total_steps == 20
    assert load_config(str(page)).total_steps == 600


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_names_in_either_normal_form_are_found(tmp_path, disk, typed):
    page = tmp_path / unicodedata.normalize(disk, "café.py")
    page.write_text(PAGE)
    name = unicodedata.normalize(typed, str(tmp_path / "café.py"))
    assert find_path(name) == page and load_config(name).total_steps == 600
    entry = unicodedata.normalize(disk, "évaluation")
    config = load_config(page, changes={f"evals.{entry}": {"type": "retrieval"}})
    key = unicodedata.normalize(typed, "evals.évaluation")
    assert apply_overrides(config, [f"{key}.type=zero_shot"]).evals[entry].type
    assert entry not in apply_overrides(config, [f"{key}=None"]).evals


def test_a_file_imports_the_file_beside_it(tmp_path):
    for number, folder in enumerate(("first", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "beside.py").write_text(f"STEPS = {number + 3}\n")
        (tmp_path / folder / "page.py").write_text(
            "from beside import STEPS\n"
            + PAGE.replace("return", "import beside\n    config.total_steps = STEPS\n"
                           "    assert beside.STEPS == STEPS\n    return")
        )  # fmt: skip
    steps = [load_config(tmp_path / f / "page.py").total_steps
             for f in ("first", "second", "first")]  # fmt: skip
    assert steps == [3, 4, 3]
