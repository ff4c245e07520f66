"""What is kept of outputs when a notebook is stored."""

import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from notebooks.build import KERNEL, read_source, use_quick_values
from notebooks.stored_outputs import clean_outputs, clean_text

PICTURE = {"image/png": "AAAA", "image/jpeg": "AA", "text/html": "/t/a"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("step 9, 707 images/s, 7% waiting for data, ETA 00:02", "step 9, ..."),
        (
            "step 9, 1,707 images/s, 7% waiting for data, loss 3.1",
            "step 9, ..., loss 3.1",
        ),
        ("clipin: goodput 22% of 12 s (start 31%)", "clipin: goodput ..."),
        (
            "embed: 100%|###| 40/40 [00:03<00:00, 11.81record/s]",
            "embed: 100%|###| 40/40",
        ),
        ("ok     memory         23.5 GiB", "ok     memory         ..."),
        ("  memory    0.14 of 15.75 GiB: fits",) * 2,
        ("1%\r50%\r100%\n", "100%\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("/tmp/made/runs/first", "runs/first"),
        ("in /tmp/made", "in ."),
        (f"srun {Path(sys.executable).parent}/clipin train", "srun clipin train"),
        ("retrieval/mean_recall 39.2% (chance 1.2%)",) * 2,
    ],
)
def test_text(text, kept):
    assert clean_text(text, "/tmp/made") == kept


def test_outputs_of_a_notebook():
    pieces = [new_output("stream", name="stdout", text=x) for x in ("1%\r", "2%\n")]
    picture = new_output("display_data", data=PICTURE)
    cell = new_code_cell("x", outputs=[*pieces, picture])
    cell.metadata["execution"] = {"iopub.status.busy": "2026-11-30"}
    notebook = new_notebook(
        cells=[cell], metadata={"kernelspec": KERNEL, "papermill": 1}
    )
    clean_outputs(notebook, "/t")
    assert notebook.metadata == {"kernelspec": KERNEL}
    assert cell.metadata == {}
    assert [output.get("text") for output in cell.outputs] == ["2%\n", None]
    assert cell.outputs[1].data == {"image/jpeg": "AA", "text/html": "a"}


def test_quick_values_replace_those_of_the_source():
    notebook = read_source("quickstart")
    use_quick_values(notebook)
    assert "steps = 4" in notebook.cells[2].source.splitlines()


def test_a_quick_value_without_a_parameter_is_refused():
    notebook = read_source("quickstart")
    notebook.cells[2].metadata["quick"] = {"stepz": 4}
    with pytest.raises(ValueError, match="stepz is not set once"):
        use_quick_values(notebook)
