"""Makes the notebooks: executes source/*.py and stores cells and outputs as .ipynb.

    make notebooks                       # all of them, a quarter of an hour
    python -m notebooks.build sweep      # one
    python -m notebooks.build --quick    # executes with small values, stores nothing

A source is Python in the percent form of jupytext. Each notebook gets a badge that
opens it in Colab, and a first cell that installs the package where it is missing. The
metadata of the cell tagged `parameters` say which values a quick execution takes.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from notebooks.stored_outputs import clean_outputs

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
# The one place that states where the repository is.
REPOSITORY = "clipin-jax/clipin_jax"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELL_SECONDS = 900

# Colab's jax is older than ours, and its plugin must come from the same install.
INSTALL = """\
# @title Install clipin_jax where it is missing, and check this machine
import importlib.util, os, shutil, subprocess, sys

if importlib.util.find_spec("clipin_jax") is None:  # before any import of jax
    on_tpu = "TPU_ACCELERATOR_TYPE" in os.environ or "COLAB_TPU_ADDR" in os.environ
    extras = ["tpu"] if on_tpu else ["cuda"] if shutil.which("nvidia-smi") else []
    package = f"clipin_jax[{','.join(extras + EXTRAS)}]"
    command = [sys.executable, "-m", "pip", "install", "--quiet", package]
    subprocess.run(command, check=True)
!clipin doctor"""


# IPython goes on after a command that has failed.
FAIL_WITH_COMMANDS = """\
def fail_with_commands(command, shell=get_ipython(), run=get_ipython().system):
    run(command)
    if code := shell.user_ns["_exit_code"]:
        raise RuntimeError(f"exit code {code}: {command}")

get_ipython().system = fail_with_commands
del fail_with_commands"""


def names() -> list[str]:
    """The names of all notebooks."""
    return sorted(path.stem for path in (FOLDER / "source").glob("*.py"))


def read_source(name: str) -> NotebookNode:
    """Returns a notebook without outputs: its source, the badge and the first cell."""
    path = FOLDER / "source" / f"{name}.py"
    read = jupytext.read(path, fmt="py:percent")
    title, *cells = read.cells
    link = f"[![Open in Colab]({BADGE})]({COLAB}/{name}.ipynb)"
    heading, _, text = title.source.partition("\n")
    title.source = f"{heading}\n\n{link}\n{text}"
    extras = title.metadata.pop("extras", [])
    install = new_code_cell(
        INSTALL.replace(" + EXTRAS", f" + {extras}" if extras else "")
    )
    install.metadata.update({"cellView": "form", "tags": ["install"]})
    notebook = nbformat.v4.new_notebook(
        cells=[title, install, *cells], metadata={"kernelspec": KERNEL}
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def use_quick_values(notebook: NotebookNode) -> None:
    """Sets the parameters to the values that the metadata of their cell gives."""
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    for name, value in cell.metadata["quick"].items():
        line = rf"(?m)^{name} = .*$"
        cell.source, count = re.subn(line, f"{name} = {value!r}", cell.source)
        if count != 1:
            raise ValueError(f"{name} is not set once in the cell of parameters")


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Executes all cells in a folder, by this interpreter, and fills in their outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell or a command in it has failed.
    """
    notebook.cells.insert(0, new_code_cell(FAIL_WITH_COMMANDS))
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=kernel_environment())
    del notebook.cells[0]
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = number + 1


def kernel_environment() -> dict[str, str]:
    """The environment of a CPU in which `!clipin` is that of this interpreter."""
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", "")])
    quiet = {"JAX_PLATFORMS": "cpu", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**quiet, **os.environ, "PATH": path}


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description="Makes the notebooks.")
    parser.add_argument("names", nargs="*", default=names(), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="store nothing")
    args = parser.parse_args(argv)
    for name in args.names:
        print(f"notebooks: {name}", flush=True)
        notebook = read_source(name)
        if args.quick:
            use_quick_values(notebook)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
            clean_outputs(notebook, folder)
        if not args.quick:
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
