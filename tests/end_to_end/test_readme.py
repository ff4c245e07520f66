"""The Python blocks of README.md run, twice each, as cells of a notebook do."""

import re

import pytest

from tests.conftest import REPOSITORY
from tests.support import tiny_runs

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.S | re.M
)
STEPS = '"total_steps=200"'
TINY = [
    "total_steps=2",
    "batch_size=8",
    "evals={}",
    "data.source.length=64",
    "model.image.width=32",
    "model.image.depth=1",
    "model.text.width=32",
    "model.text.depth=1",
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("first", ["", "from clipin_jax import *\n"])
def test_a_block_runs_twice(block, first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert STEPS in block
    small = first + block.replace(STEPS, ", ".join(map(repr, TINY)))
    with tiny_runs.on_one_device():
        for _ in range(2):
            exec(small, names := {})
    assert names["clipin_jax"].train is names.get("train", names["clipin_jax"].train)
    assert "<svg" in names["run"].plot()._repr_html_()
    assert names["vectors"].shape == (2, names["run"].model.width)
    assert (tmp_path / "runs" / "notebook" / "DONE").is_file()
