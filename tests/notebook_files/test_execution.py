"""Every notebook runs from top to bottom, with small values of its parameters."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from notebooks.build import execute, names, read_source, use_quick_values
from tests.conftest import COMPILE_FAST

FAST = ("quickstart",)


@pytest.fixture(autouse=True)
def package_of_this_clone(monkeypatch, repository):
    path = [str(repository), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("XLA_FLAGS", COMPILE_FAST)  # on one device, as on a laptop


@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in names()
    ],
)
def test_notebook_runs(tmp_path, name):
    notebook = read_source(name)
    use_quick_values(notebook)
    execute(notebook, tmp_path)
    shown = [kind for cell in notebook.cells for kind in kinds(cell)]
    assert "stream" in shown and "error" not in shown


def kinds(cell):
    """The kinds of what a cell shows."""
    for output in cell.get("outputs", []):
        yield output.output_type
        yield from output.get("data", {})


def test_a_command_that_fails_ends_the_execution(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("!exit 3")])
    with pytest.raises(CellExecutionError, match="exit code 3: exit 3"):
        execute(notebook, tmp_path)


def python_of_colab():
    """An interpreter of Colab's version; skips the test where there is none."""
    installed = Path("~/.pyenv/versions").expanduser().glob("3.13*/bin/python")
    for candidate in filter(None, [shutil.which("python3.13"), *map(str, installed)]):
        if not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return candidate
    pytest.skip("no Python 3.13 on this machine")


@pytest.mark.slow
def test_first_cell_installs_over_the_versions_of_colab(repository, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("PYTHON", python_of_colab())
    subprocess.run([repository / ".ci" / "colab", "quickstart"], check=True)
