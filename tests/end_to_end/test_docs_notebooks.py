"""Examples of docs/notebooks.md, carried out one after the other with a small model."""

import inspect
import json
import re
from pathlib import Path

import pytest

import clipin_jax
from clipin_jax.sweep.definition import open_home
from clipin_jax.sweep.sweep_file import load_sweep
from tests.conftest import REPOSITORY
from tests.support import tiny_runs
from tests.support.study_results import looseness_study

PAGE = (REPOSITORY / "docs" / "notebooks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SCENES = {"name": "scenes", "split": "val", "length": 16, "size": 32}
SMALL = (
    "total_steps=2", "batch_size=8", "model.image.width=32", "model.image.depth=1",
    "model.text.width=32", "model.text.depth=1", "model.text.num_heads=2",
    "model.image.num_heads=2", "data.source.length=64", "log_every_steps=1",
    "health_every_steps=0", "log.tensorboard=false",
    f"evals={ {'retrieval': {'type': 'retrieval', 'source': SCENES}} }",
)  # fmt: skip
SMALLER = {
    '["total_steps=200"]': repr(list(SMALL)),
    "total_steps=400": "total_steps=3",
    "records=1000": "records=20",
}


@pytest.fixture(autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


def write_results(folder: Path) -> None:
    """Writes the sweep and the study that the page names."""
    options = {"metric": "retrieval/mean_recall"}
    sweep = load_sweep("quickstart", {"optim.weight_decay": "0.1,0.2"}, options)
    open_home(sweep, folder / "runs" / "sweeps" / "rates")
    study = folder / "runs" / "studies" / "looseness"
    study.mkdir(parents=True)
    (study / "results.json").write_text(json.dumps(looseness_study(seeds=2)))


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path)
    text = "\n".join(BLOCKS)
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    exec(text, names := {})
    assert names["run"].finished and names["run"].config.total_steps == 3
    assert names["vectors"].shape[0] == 2
    assert not names["check"].stops
    assert {"notebook.html", "data.html"} <= {
        path.name for path in Path("runs").iterdir()
    }
    assert [point.state for point in names["sweep"].points] == ["has not run"] * 2
    for shown in ("run", "check", "sweep", "study"):
        assert names[shown]._repr_html_().startswith('<div class="clipin-jax">')


def test_the_table_has_what_a_run_has():
    rows = set(re.findall(r"`run\.(\w+)", PAGE))
    attributes = {name for name in vars(clipin_jax.Run) if not name.startswith("_")}
    assert rows == attributes | {"config", "workdir"}
    [plot] = re.findall(r"`run\.plot\((.*?)\)`", PAGE)
    assert plot == "*metrics, beside=[]"
    assert "beside" in inspect.signature(clipin_jax.Run.plot).parameters
