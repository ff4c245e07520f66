"""Embeds the records of a source in their order, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from clipin_jax.data.source import Annotations, Record, Source
from clipin_jax.embeddings.rows import BOTH, TEXT, image_row, make_table, text_rows
from clipin_jax.inference.model import Model


def embed_records(
    model: Model, source: Source, records: range, what: str
) -> Iterator[tuple[int, pa.Table]]:
    """Yields the rows of some records at a time, and the index after the last one."""
    for first, images in _image_batches(model, source, records, what):
        end = min(first + model.batch_size, records.stop)
        indices = range(first, end if images is None else first + len(images))
        rows, vectors = [], []
        if images is not None:
            rows += [image_row(source, index) for index in indices]
            vectors.append(images)
        if what in (TEXT, BOTH):
            texts = [row for index in indices for row in text_rows(source, index)]
            rows += texts
            vectors.append(model.encode_text([row.caption for row in texts]))
        # An image comes before its captions.
        order = np.argsort([row.index for row in rows], kind="stable")
        table = make_table([rows[n] for n in order], np.concatenate(vectors)[order])
        yield indices[-1] + 1, table


def _image_batches(
    model: Model, source: Source, records: range, what: str
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields the first index and the embeddings of batches; None without images."""
    if what == TEXT:
        for first in range(records.start, records.stop, model.batch_size):
            yield first, None
    elif records:
        first = records.start
        for images in model.stream_images(_Records(source, records)):
            yield first, images
            first += len(images)


class _Records:
    """Some records of a source, in a row; a `Source`."""

    def __init__(self, source: Source, records: range):
        self._source, self._records = source, records
        self.classes, self.fingerprint = source.classes, source.fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._records[index]]

    def annotations(self, index: int) -> Annotations:
        return self._source.annotations(self._records[index])

    def describe(self, index: int) -> str:
        return self._source.describe(self._records[index])
