"""The pages of the methods say what the code and the configs say."""

import ast
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from clipin_jax.config import list_configs, load_config
from clipin_jax.config.key_listing import explain_config

ROOT = Path(__file__).resolve().parents[1]
OVERVIEW = "frameworks.md"
PAGES = [
    page
    for page in sorted((ROOT / "docs/methods").glob("*.md"))
    if page.name != OVERVIEW
]
SECTIONS = ["Objective", "Parts", "State", "Checks", "Differences", "Run", "Cost"]
LINKED_CODE = re.compile(r"\[`([\w./]+)`\]\(([^)#]+\.py)\)")
COMMAND = re.compile(r"^clipin train (\S+)(.*)$", re.MULTILINE)
GROUPS = "model|objectives|optim|data|target|evals"
KEY = re.compile(rf"`((?:{GROUPS})\.[\w.]+)(=[^`\s]+)?`")
PAPER = re.compile(
    r"\]\(https://arxiv\.org/abs/([\d.]+)\),\s.*?arXiv\s([\d.]+\d)", re.S
)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yields the cells of each table, its head first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in block.splitlines()]
        yield [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]


def config_tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yields the configs of each table of keys, and its rows."""
    for head, *rows in tables(text):
        if head[0] == "key":
            yield [cell.strip("`") for cell in head[1:-1]], rows


def specs_of(text: str) -> list[str]:
    """Returns the configs of a page's tables."""
    return [spec for specs, _ in config_tables(text) for spec in specs]


@functools.cache
def values(spec: str) -> Mapping[str, Any]:
    """Returns dotted key -> value of a config, and of the defaults of its classes."""
    return {key: entry.value for key, entry in explain_config(spec).items()}


def read_cell(cell: str) -> Any:
    text = cell.strip("`")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def test_every_config_has_a_page():
    text = "".join(page.read_text() for page in PAGES)
    for name in list_configs():
        assert f"(../../configs/{name}.py)" in text, f"no page links configs/{name}.py"


@every_page
def test_page_has_all_sections_a_paper_and_a_figure(page):
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    papers = PAPER.findall(text)
    assert papers and all(linked == named for linked, named in papers)
    figures = re.findall(r"!\[.+?\]\((.+?\.svg)\)", text.partition("## Objective")[0])
    assert figures and all((page.parent / name).is_file() for name in figures)
    assert "$$" in text and "<!-- costs of " in text


@every_page
def test_formulas_are_no_markdown(page):
    """GitHub reads Markdown before formulas: a line may not look like a list."""
    text = page.read_text()
    blocks, inline = (
        re.findall(r"\$\$.+?\$\$", text, re.S),
        re.findall(r"\$.+?\$", text),
    )
    assert blocks and inline
    for formula in [*blocks, *inline]:
        assert not re.search(r"\n\s*([-+*=#>]|\d+[.)])", formula), formula
        assert not re.search(r"\\[^A-Za-z]", formula), formula


@every_page
def test_linked_code_is_where_the_page_says(page):
    found = LINKED_CODE.findall(page.read_text())
    assert len(found) > 5
    for name, link in found:
        path = (page.parent / link).resolve()
        assert path.is_file(), f"{page.name}: no file {link}"
        if not name.endswith(".py"):
            for part in name.split("."):
                defined = rf"^ *(?:def|class) {part}\b"
                assert re.search(defined, path.read_text(), re.M), f"{name} in {link}"


@every_page
def test_values_are_those_of_the_configs(page):
    found = list(config_tables(page.read_text()))
    assert found
    for specs, rows in found:
        for key, *cells, _ in rows:
            for spec, cell in zip(specs, cells, strict=True):
                where, config = f"{page.name}: {key} of {spec}", values(spec)
                if cell:
                    assert config[key.strip("`")] == read_cell(cell), where
                else:
                    assert key.strip("`") not in config, f"{where} has a value"


@every_page
def test_keys_exist_and_take_the_values_that_are_named(page):
    text = page.read_text()
    for key, value in KEY.findall(text):
        specs = [spec for spec in specs_of(text) if key in values(spec)]
        assert specs, f"{page.name}: no config has {key}"
        if value:
            load_config(specs[0], [key + value], without_data=True)


@every_page
def test_commands_load(page):
    commands = COMMAND.findall(page.read_text())
    assert commands
    for spec, changes in commands:
        load_config(spec, changes.split(), without_data=True)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(path, marks=() if path.stem == "clipin" else pytest.mark.slow)
        for path in PAGES
    ],
    ids=lambda path: path.stem,
)
def test_costs_are_those_of_the_configs(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    text = page.read_text()
    assert importlib.import_module("method_costs").with_costs(text) == text


def test_ratio_of_a_step_follows_from_the_costs():
    text = (ROOT / "docs/methods/clipin.md").read_text()
    rows = {row[0]: row[1:] for row in list(tables(text))[-1]}
    online, target = rows["all that is trained"], rows["target, averaged"]
    ratio = (3 * float(online[3]) + float(target[3])) / (3 * float(online[1]))
    assert f"has {ratio:.2f} times" in text.replace("\n", " ")
