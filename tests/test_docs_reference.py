"""The generated reference has every public name, config key, class and command."""

import importlib
import inspect
import re

import pytest

import clipin_jax
from clipin_jax.config.class_arguments import PARTS
from clipin_jax.config.descriptions import RECIPE_KEYS
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("reference/*.md"))


@pytest.fixture
def extension(monkeypatch):
    """Returns a module of docs/extensions by its name."""
    monkeypatch.syspath_prepend(DOCS)
    return lambda name: importlib.import_module(f"extensions.{name}")


def test_every_public_name_is_documented(extension):
    page = extension("python_names").public_names()
    listed = re.findall(r"auto(?:function|exception|class):: clipin_jax\.(\w+)\n", page)
    assert sorted(listed) == clipin_jax.__all__
    for name in clipin_jax.__all__:
        target = getattr(clipin_jax, name)
        docstring = inspect.getdoc(target) or ""
        assert docstring.partition("\n")[0].endswith("."), name
        if inspect.isfunction(target) and inspect.signature(target).parameters:
            assert "Args:\n" in docstring, name


def test_a_public_name_without_a_group_is_documented_too(extension, monkeypatch):
    monkeypatch.setattr(clipin_jax, "__all__", [*clipin_jax.__all__, "__getattr__"])
    page = extension("python_names").public_names()
    assert "autofunction:: clipin_jax.__getattr__\n" in page.partition("## More\n")[2]


def test_protocols_have_docstrings(extension):
    for module in extension("python_names")._BASES.values():
        for name, value in vars(
            importlib.import_module(f"clipin_jax.{module}")
        ).items():
            ours = getattr(value, "__module__", "") == f"clipin_jax.{module}"
            if ours and inspect.isclass(value) and not name.startswith("_"):
                assert inspect.getdoc(value), name


def test_every_config_key_is_on_the_page(extension):
    page = extension("config_keys").page()
    entries = dict(re.findall(r"\{confval\} (\S+)\n\n(.+)\n```", page))
    assert entries.keys() == RECIPE_KEYS.keys()
    assert entries["seed"].endswith("Default: `0`.")
    assert entries["data.shuffle"].endswith("Default: `True`.")


def test_every_class_that_a_config_may_name_is_listed_with_its_keys(extension):
    tables = extension("tables")
    assert {x.table for x in tables._TABLES.values()} == {part.table for part in PARTS}
    for listed in tables._TABLES.values():
        section = tables.section(listed)
        for name, target in tables.entries(listed):
            assert f"auto{tables.kind_of(target)}:: {target.__module__}" in section
            assert not name or f"\n## {name}\n" in f"\n{section}"
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        cells = [re.split(r"(?<!\\) \| ", row.strip("| ")) for row in rows]
        assert rows and all(len(row) == 3 and row[2] for row in cells)


def test_every_command_is_listed_with_its_help(extension):
    page = extension("commands").page()
    verbs = set(re.findall(r"^## clipin (.+)$", page, re.MULTILINE))
    assert {"train", "sweep", "data check", "checkpoint diff", "config"} <= verbs
    assert "--max-time" in page and page.count("usage: clipin ") == len(verbs)


def test_each_generated_part_has_one_place(extension):
    reference = extension("reference")
    used = [
        name for page in PAGES for name in reference.PLACE.findall(page.read_text())
    ]
    assert sorted(used) == sorted(reference.GENERATORS)


def test_arguments_leave_the_docstring_of_a_listed_class(extension):
    lines = ["Sums.", "", "Args:", "  a: number.", "", "Raises:", "  E: never.", ""]
    name = "clipin_jax.core.schedules.linear"
    extension("tables").drop_arguments(None, "function", name, None, None, lines)
    assert lines == ["Sums.", "", "Raises:", "  E: never.", ""]


def test_indented_blocks_of_docstrings_become_code(extension):
    mark = extension("docstrings").mark_code
    assert mark(["Use it:", "", "    a = 1", "", "Then."])[0] == "Use it::"
    assert mark(["Sums.", "", "    a = 1"]) == ["Sums.", "", "::", "", "    a = 1"]
    section = ["Args:", "  a: two", "    lines."]
    assert mark([*section]) == section
