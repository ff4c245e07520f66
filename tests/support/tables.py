"""Tables of pictures, written for tests."""

import fsspec
import pytest

from clipin_jax.data import make_source, storage
from clipin_jax.data.source import BadRecord

TSV = "filepath\ttitle\na.jpg\t a dog \nb.jpg\ta cat, two\n"


def write(folder, content, name="t.csv"):
    data = content if isinstance(content, bytes) else content.encode()
    path = storage.join(str(folder), name)
    with fsspec.open(path, "wb", auto_mkdir=True) as file:
        file.write(data)
    return path


def open_table(where, content, name="t.csv", **cfg):
    return make_source(name="table", files=write(where, content, name), **cfg)


def unchecked(folder, content, name="t.csv", **cfg):
    """Of a table that needs no pictures: its first row names one that there is."""
    write(folder, b"", "a.jpg")
    return open_table(folder, content, name, **cfg)


def reason(source, index):
    with pytest.raises(BadRecord) as error:
        source[index]
    return str(error.value)
