"""Images as base64 in a cell are read, and no message prints a long value."""

import base64
import json
import logging

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from clipin_jax.data import make_source
from clipin_jax.data.formats.image_files import embedded_image
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from tests.data.image.test_views import packed

PIXELS = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
IMAGE = packed(Image.fromarray(PIXELS), "PNG")
TEXT = base64.b64encode(IMAGE).decode()
NOISE = base64.b64encode(np.random.default_rng(0).bytes(9000)).decode()
LONGEST = 1000  # letters of a whole message


def open_cells(folder, name, value):
    """Returns a source of two rows, with a value in place of the image's name."""
    rows = [{"image": value, "caption": "a dog"}] * 2
    columns = dict(image="image", captions="caption")
    if name == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
        return make_source(name=name, files=str(folder / "a.parquet"), **columns)
    if name == "json_list":
        (folder / "a.json").write_text(json.dumps(rows))
        return make_source(name=name, files=str(folder / "a.json"), **columns)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    kind = "jsonl" if name == "jsonl" else "tsv"
    if kind == "tsv":
        lines = "image\tcaption\n" + f"{value}\ta dog\n" * 2
    (folder / f"a.{kind}").write_text(lines)
    return make_source(name="table", files=str(folder / f"a.{kind}"), **columns)


SOURCES = ("parquet", "json_list", "jsonl", "tsv")


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("value", [TEXT, f"data:image/png;base64,{TEXT}"])
def test_images_in_base64(tmp_path, name, value):
    source = open_cells(tmp_path, name, value)
    assert (decode(source[1]["image"]) == PIXELS).all()
    assert len(source.describe(1)) < 400


@pytest.mark.parametrize("name", SOURCES)
def test_long_values_are_cut_in_messages(tmp_path, name, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises((BadRecord, ClipinError)) as error:
        open_cells(tmp_path, name, NOISE)[0]
    assert len(str(error.value)) < LONGEST and NOISE[:40] in str(error.value)
    assert len(caplog.text) < LONGEST


def test_long_names_of_columns_and_labels(tmp_path):
    """A table without a header, and a label in the wrong column."""
    (tmp_path / "a.tsv").write_text(f"1\t{NOISE}\n2\t{NOISE}\n")
    with pytest.raises(ClipinError) as error:
        make_source(name="table", files=str(tmp_path / "a.tsv"))
    assert len(str(error.value)) < LONGEST and "source.columns" in str(error.value)
    (tmp_path / "b.tsv").write_text(f"filepath\ttitle\nx\t{NOISE}|\nx\t3\n")
    with pytest.raises(ClipinError) as error:
        make_source(name="table", files=str(tmp_path / "b.tsv"), label="title")
    assert len(str(error.value)) < LONGEST


@pytest.mark.parametrize(
    "text",
    [TEXT, TEXT.rstrip("="), TEXT.replace("+", "-").replace("/", "_"), f"\n{TEXT}\n"],
)
def test_spellings_of_base64(text):
    assert embedded_image(text) == IMAGE


@pytest.mark.parametrize("text", ["a.jpg", "", NOISE, "data:text,a", "é" * 100])
def test_other_texts_hold_no_image(text):
    assert embedded_image(text) is None
