"""The stored notebooks are those of their sources, executed, small and plain."""

import ast
import re
import subprocess
import sys

import nbformat
import pytest

import clipin_jax
from notebooks.build import FOLDER, INSTALL, names, read_source

NAMES = names()
MOST_LINES, MOST_BYTES = 15, 300_000
ROOT = FOLDER.parent
# What users import from rooms of the package: what documents and pages of configs show.
SHOWN = re.findall(
    r"^ *from (clipin_jax\.\S+) import (\([^)]*\)|.*)",
    "\n".join(
        path.read_text(encoding="utf-8")
        for path in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/**/*.py")]
    ),
    re.MULTILINE,
)
MACHINE = re.compile(r"(?<![\w.])/(tmp|home|root|work|usr|var|opt)/")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def stored(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python_of(cell):
    """The Python of a cell, without commands of the shell and magics."""
    lines = cell.source.replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if not re.match(r"\s*[!%]", line))


def test_nine_notebooks_and_no_others():
    assert len(NAMES) == 9
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


def test_page_lists_each_notebook():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r"\]\((\w+)\.ipynb\)", page))) == NAMES


def test_cells_are_those_of_the_source(name, stored):
    nbformat.validate(stored)
    source = read_source(name)
    cells = [
        [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
        for notebook in (stored, source)
    ]
    assert cells[0] == cells[1], f"run `python -m notebooks.build {name}`"


def test_each_cell_was_executed_without_an_error(stored):
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) // 2


def test_outputs_tell_nothing_of_the_machine(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not (found := MACHINE.search(text)), text[found.start() - 80 :][:200]
    assert "% waiting for data" not in text


def test_small(name, stored):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
    assert all(len(c.source.splitlines()) <= MOST_LINES for c in code_cells(stored))


def test_one_cell_of_parameters(stored):
    tags = [cell.metadata.get("tags", []) for cell in stored.cells]
    assert sum("parameters" in each for each in tags) == 1


def test_badge_and_first_cell(name, stored):
    title, first, *others = stored.cells
    assert title.source.startswith("# ")
    assert f"/notebooks/{name}.ipynb)" in title.source.splitlines()[2]
    assert first.source.splitlines()[-1] == "!clipin doctor"
    assert "subprocess.run" in first.source
    assert not any("pip" in cell.source.split() for cell in others)


def test_imports_are_public(stored):
    for cell in code_cells(stored):
        for node in ast.walk(ast.parse(python_of(cell))):
            if isinstance(node, ast.ImportFrom) and node.module:
                check_import(node)
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "clipin_jax":
                    assert node.attr in clipin_jax.__all__
            if isinstance(node, ast.Import):
                assert not any("clipin_jax." in alias.name for alias in node.names)


def check_import(node):
    imported = [alias.name for alias in node.names]
    assert not any(each.startswith("_") for each in imported)
    if node.module.startswith("clipin_jax"):
        shown = " ".join(names for module, names in SHOWN if module == node.module)
        assert set(imported) <= set(re.findall(r"\w+", shown)), node.module


@pytest.mark.parametrize(
    ("environment", "gpu", "package"),
    [
        ({}, None, "clipin_jax[]"),
        ({}, "/bin/nvidia-smi", "clipin_jax[cuda]"),
        ({"COLAB_TPU_ADDR": "10.0.0.2:8470"}, None, "clipin_jax[tpu]"),
        ({"TPU_ACCELERATOR_TYPE": "v5e-1"}, None, "clipin_jax[tpu]"),
    ],
)
def test_first_cell_installs_for_the_device(monkeypatch, environment, gpu, package):
    commands = run_install(monkeypatch, environment, gpu, found=None)
    assert commands == [[sys.executable, "-m", "pip", "install", "--quiet", package]]


def test_first_cell_installs_nothing_where_the_package_is(monkeypatch):
    assert run_install(monkeypatch, {}, "/bin/nvidia-smi", found="a spec") == []


def test_extras_of_a_notebook_are_installed_too():
    [first] = [c for c in read_source("laptop_to_tpu").cells if "install" in tags(c)]
    assert "extras + ['plan']" in first.source


def tags(cell):
    return cell.metadata.get("tags", [])


def run_install(monkeypatch, environment, gpu, found):
    """Runs the first cell where the package is, or is not; returns its commands."""
    commands = []
    for variable in ("TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("shutil.which", lambda name: gpu)
    monkeypatch.setattr(subprocess, "run", lambda words, check: commands.append(words))
    [cell] = [c for c in read_source("quickstart").cells if "install" in tags(c)]
    exec(python_of(cell), {})
    assert INSTALL.splitlines()[0] in cell.source
    return commands
