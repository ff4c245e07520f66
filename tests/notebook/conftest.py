"""A finished run that the tests of this folder share, and an IPython that is none."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_runs
from tests.support.run_folders import write_evaluation

CONFIG = tiny_runs.tiny_run()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run with its initial model. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with tiny_runs.on_one_device():
        tiny_runs.write_run(CONFIG, folder)
    losses = {"train/loss": 5.5, "train/contrastive/loss": 2.9}
    lines = [json.dumps({"step": n, "time": n, **losses}) for n in range(1, 7)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    scores = {"retrieval/mean_recall": 0.2, "retrieval/chance/mean_recall": 0.16}
    write_evaluation(folder, step=6, scores=scores)
    (folder / "DONE").touch()
    return folder


class Output:
    """Keeps what a cell's output has shown."""

    def __init__(self) -> None:
        self.drawings: list[Any] = []

    def update(self, drawing: Any) -> None:
        self.drawings.append(drawing)


class FakeNotebook:
    """Stands for IPython in a kernel."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.kernel = object()

    def display(self, shown: Any, display_id: bool) -> Output:
        assert display_id
        self.outputs.append(Output())
        self.outputs[-1].update(shown)
        return self.outputs[-1]


@pytest.fixture
def notebook(monkeypatch) -> FakeNotebook:
    """Lets this process be a notebook."""
    fake = FakeNotebook()
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: fake
    display.display = fake.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return fake
