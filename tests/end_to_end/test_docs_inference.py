"""Examples and commands of docs/guides/inference.md, carried out with a small model."""

import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.errors import DONE
from clipin_jax.inference.model import Model
from tests.conftest import REPOSITORY
from tests.support import tiny_runs

PAGE = (REPOSITORY / "docs" / "guides" / "inference.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHELL = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SMALL = (
    "total_steps=1", "model.image.depth=1", "model.image.width=16",
    "model.text.depth=1", "model.text.decoder_depth=1", "model.text.width=16",
    "model.text.context_length=8", "evals={}",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the run and the files that the page names."""
    folder = tmp_path_factory.mktemp("page")
    config = load_config("coca:runlocal", SMALL)
    tiny_runs.write_run(config, folder / "runs" / "mine", step=1)
    for number, name in enumerate(("a.jpg", "b.jpg")):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    rows = [{"image": name, "captions": [name, "two"]} for name in ("a.jpg", "b.jpg")]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_the_examples_run_one_after_the_other(place, monkeypatch):
    monkeypatch.chdir(place)
    names: dict = {}
    shapes = []
    for block in BLOCKS:
        exec(block, names)
        shapes.append(names["cosines"].shape)
    assert shapes == [(2, 2), (3, 2)]
    assert names["probabilities"].shape == (3, 2) and len(names["captions"]) == 3
    assert names["heat"].ndim == 2


def test_the_commands_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for command in "".join(SHELL).splitlines():
        assert main(shlex.split(command)[1:]) == DONE, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "pairs.parquet (6 embeddings" in out and "pairs.npy (2 embeddings" in out
    assert " 1.000  " in out and (place / "found.html").is_file()


def test_the_table_has_the_methods_and_their_arguments():
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGE, re.MULTILINE)
    methods = {
        name
        for name, value in vars(Model).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert {name for name, _ in rows} == methods - {"stream_images"}
    for name, arguments in rows:
        known = inspect.signature(getattr(Model, name)).parameters
        given = [x for x in arguments.split(", ") if not x.startswith('"')]
        assert set(given) <= set(known), name
