"""The door for classes of other packages, and its errors."""

import sys

import pytest

from clipin_jax import errors
from clipin_jax.errors import ClipinError
from clipin_jax.registry import check_arguments, construct, find

TABLE = {"small": dict, "smaller": list}

PLUGIN = """
import math
VALUE = 3
class Sparrow:
    pass
def sing():
    pass
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder on the path with a package of its own."""
    (tmp_path / "plugin_birds").mkdir()
    (tmp_path / "plugin_birds" / "__init__.py").write_text("")
    (tmp_path / "plugin_birds" / "garden.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "plugin_birds"
    for name in [name for name in sys.modules if name.startswith("plugin_birds")]:
        del sys.modules[name]


def message(name, **arguments) -> str:
    with pytest.raises(ClipinError) as error:
        find(TABLE, name, "model.image.name", **arguments)
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"model.image.name is {name!r}")
    return text


def test_short_names_and_classes_of_other_packages(plugin):
    assert find(TABLE, "small", "x") is dict
    sparrow = find(TABLE, "plugin_birds.garden:Sparrow", "x")
    assert sparrow.__module__ == "plugin_birds.garden"
    assert find(TABLE, "plugin_birds.garden:Sparrow", "y") is sparrow
    assert callable(find({}, "plugin_birds.garden:sing", "x"))


def test_an_unknown_short_name_gets_the_nearest():
    text = message("smal")
    assert "did you mean 'small'? known: small, smaller" in text
    assert "package.module:Class" in text
    assert "small, smaller" in message(None) and "known" in message(3)


@pytest.mark.parametrize(
    "name", [":Cls", "mod:", ":", "a.:B", "a:b:c", ".a:B", "a:b c"]
)
def test_a_name_with_an_empty_part(name):
    assert "write it as 'package.module:Class'" in message(name)


@pytest.mark.parametrize(
    "name, missing",
    [
        ("plugin_brids.garden:Sparrow", "plugin_brids"),
        ("plugin_birds.yard:Sparrow", "plugin_birds.yard"),
        ("plugin_birds.garden.tree:Sparrow", "plugin_birds.garden.tree"),
    ],
)
def test_a_module_that_is_not_there(plugin, name, missing):
    assert f"there is no module {missing}: install" in message(name)
    assert "PYTHONPATH" in message(name)


@pytest.mark.parametrize(
    "source, error, line",
    [
        ("x = 1\n\nraise ValueError('two\\nlines')", "ValueError: two (", 3),
        ("x = 1\ny = (", "SyntaxError: ", 2),
        ("import no_such_library", "No module named 'no_such_library' (", 1),
        ("def load():\n    return {}['wings']\nload()", "KeyError: 'wings' (", 2),
    ],
)
def test_a_module_that_fails_names_the_error_and_its_line(plugin, source, error, line):
    (plugin / "broken.py").write_text(source)
    text = message("plugin_birds.broken:Sparrow")
    assert "but importing plugin_birds.broken raised" in text
    assert error in text and text.endswith(f"broken.py, line {line})")


def test_a_name_that_is_missing_or_not_callable(plugin):
    text = message("plugin_birds.garden:Sparow")
    assert "plugin_birds.garden has no 'Sparow': did you mean 'Sparrow'?" in text
    assert "of type int: name a class" in message("plugin_birds.garden:VALUE")
    assert "of type module: name a class" in message("plugin_birds.garden:math")


def test_arguments_are_checked_by_name():
    def target(given, size, *, depth=1):
        raise AssertionError

    check_arguments(target, {"size": 1, "depth": 2}, "model.image", given=1)
    with pytest.raises(
        ClipinError, match="image.dept does not exist: did you mean .dep"
    ):
        check_arguments(target, {"size": 1, "dept": 2}, "model.image", given=1)
    with pytest.raises(ClipinError, match="model.image.size is missing"):
        check_arguments(target, {}, "model.image", given=1)
    with pytest.raises(ClipinError, match="model.image.given does not exist"):
        check_arguments(target, {"size": 1, "given": 2}, "model.image", given=1)


def test_functions_with_kwargs_take_any_name():
    def target(size, *rest, **others):
        raise AssertionError

    check_arguments(target, {"size": 1, "wings": 2}, "model.image")
    with pytest.raises(ClipinError, match="model.image.size is missing"):
        check_arguments(target, {"wings": 2}, "model.image")


def test_constructing_explains_what_a_class_raises():
    class Base:
        def __init__(self, *, size=1):
            if size < 0:
                raise ValueError("a negative size")

    class Sparrow(Base):
        def __init__(self, given, target="", where="", **others):
            super().__init__(**others)
            self.values = given, target, where

    assert construct(Sparrow, "bird", 1, target=2, where=3).values == (1, 2, 3)
    with pytest.raises(ClipinError, match=r"bird: ValueError: a negative .* line \d+"):
        construct(Sparrow, "bird", 1, size=-1)
    with pytest.raises(ClipinError, match="bird.sise .*did you mean 'size'"):
        construct(Sparrow, "bird", 1, sise=1)


def test_a_value_in_a_message_is_one_line_that_a_terminal_can_show():
    assert errors.shorten("a: 1\n  b: 2\n") == "a: 1 b: 2"
    assert errors.shorten("two  spaces.jpg") == "two  spaces.jpg"
    assert errors.shorten("\ud800.jpg") == "\\ud800.jpg"
    assert len(errors.shorten("x" * 5000)) < 250
