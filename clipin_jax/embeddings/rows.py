"""The rows of a file of embeddings: one for each vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from clipin_jax.data.source import BadRecord, Source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_annotations

IMAGE, TEXT, BOTH = KINDS = ("image", "text", "both")
VECTOR = "embedding"  # the column of vectors
FACTS = pa.schema(
    [
        ("index", pa.int64()),  # of the record in its source
        ("kind", pa.string()),  # image or text
        ("id", pa.string()),  # origin of the record, such as a file's name
        ("caption", pa.string()),  # the text; the first caption of an image
    ]
)


class Row(NamedTuple):
    """What is known of a vector; the columns of `FACTS`."""

    index: int
    kind: str
    id: str
    caption: str


def schema(width: int) -> pa.Schema:
    """Returns the columns of a table with vectors of a width."""
    return FACTS.append(pa.field(VECTOR, pa.list_(pa.float32(), width)))


def make_table(rows: Iterable[Row], vectors: np.ndarray) -> pa.Table:
    """Returns rows with their vectors, [N, E] float32, as a table."""
    columns = [pa.array(column, kind) for column, kind in _columns(rows)]
    values = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    width = vectors.shape[1]
    columns.append(pa.FixedSizeListArray.from_arrays(values, width))
    return pa.Table.from_arrays(columns, schema=schema(width))


def table_vectors(table: pa.Table, width: int) -> np.ndarray:
    """Returns the vectors of a table, [N, E] float32."""
    if not len(table):
        return np.zeros((0, width), np.float32)
    column = table.column(VECTOR).combine_chunks()
    return column.flatten().to_numpy().reshape(len(table), width)


def image_row(source: Source, index: int) -> Row:
    """Returns the row of an image, which need not have a caption."""
    try:
        captions = source.annotations(index)["captions"]
    except (BadRecord, OSError):
        captions = ()
    return _row(source, index, IMAGE, captions[0] if captions else "")


def text_rows(source: Source, index: int) -> list[Row]:
    """Returns the rows of the captions of a record.

    Raises:
      ClipinError: it cannot be read, or has none.
    """
    captions = read_annotations(source, index)["captions"]
    if not captions:
        raise ClipinError(
            f"record {index}, {source.describe(index)}, has no caption: give it one, "
            "or take --what image"
        )
    return [_row(source, index, TEXT, caption) for caption in captions]


def _row(source: Source, index: int, kind: str, caption: str) -> Row:
    return Row(index, kind, _writable(source.describe(index)), _writable(caption))


def _writable(text: str) -> str:
    """Returns a text that UTF-8 can hold; the name of a file may be no Unicode."""
    return text.encode(errors="backslashreplace").decode()


def _columns(rows: Iterable[Row]) -> Iterable[tuple[list, pa.DataType]]:
    by_row = list(rows)
    for number, kind in enumerate(FACTS.types):
        yield [row[number] for row in by_row], kind
