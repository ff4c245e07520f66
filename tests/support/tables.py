"""Writes and opens table files that list images and captions."""

import fsspec
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord

TSV = "filepath\ttitle\na.jpg\t a dog \nb.jpg\ta cat, two\n"


def write_table(folder, content, name="t.csv"):
    data = content if isinstance(content, bytes) else content.encode()
    path = storage.join(str(folder), name)
    with fsspec.open(path, "wb", auto_mkdir=True) as file:
        file.write(data)
    return path


def open_table(where, content, name="t.csv", **cfg):
    return make_source(name="table", files=write_table(where, content, name), **cfg)


def open_text_table(folder, content, name="t.csv", **cfg):
    """Opens a table for a test that reads no images.

    The source checks the image of the first row, so that `a.jpg` is written.
    """
    write_table(folder, b"", "a.jpg")
    return open_table(folder, content, name, **cfg)


def bad_record_reason(source, index):
    with pytest.raises(BadRecord) as error:
        source[index]
    return str(error.value)
